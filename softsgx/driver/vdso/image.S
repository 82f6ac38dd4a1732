// The vDSO image that AT_SYSINFO_EHDR points to: every function jumps through a slot that the loader fills, with the
// kernel's own vDSO function or ours. The slots are the last thing in the image, in the order below (vdso.cc).

	.macro forward name, slot
	.globl \name
	.type \name, @function
\name:
	jmp *slots + 8 * \slot(%rip)
	.size \name, . - \name
	.endm

	.text
	forward __vdso_sgx_enter_enclave, 0
	forward __vdso_clock_gettime, 1
	forward __vdso_gettimeofday, 2
	forward __vdso_time, 3
	forward __vdso_clock_getres, 4
	forward __vdso_getcpu, 5
	forward __vdso_getrandom, 6

	.section .slots, "a"
	.balign 8
slots:
	.fill 7, 8, 0

	.section .note.GNU-stack, "", @progbits
