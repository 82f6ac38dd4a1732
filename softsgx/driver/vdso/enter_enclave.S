// __vdso_sgx_enter_enclave, after the contract in <asm/sgx.h> and Documentation/arch/x86/sgx.rst.
//
// Lives in the library, where unwinders find its CFI (a user handler may throw through it); the vDSO image only jumps
// here. RBP anchors the frame: after an exit nothing else is known to be what it was before.

#include <asm/errno.h>

#define ENCLU_EENTER 2
#define ENCLU_EEXIT 4
#define RUN_ARGUMENT 16     // the seventh argument, from RBP
#define SAVED_RBX -8
#define RUN_TCS 0           // struct sgx_enclave_run
#define RUN_FUNCTION 8
#define RUN_VECTOR 12
#define RUN_ERROR_CODE 14
#define RUN_ADDRESS 16
#define RUN_USER_HANDLER 24
#define RUN_RESERVED 40
#define RUN_SIZE 256

	.text
	.globl softsgx_enter_enclave, softsgx_vdso_enclu, softsgx_vdso_exception
	.hidden softsgx_enter_enclave, softsgx_vdso_enclu, softsgx_vdso_exception
	.type softsgx_enter_enclave, @function
	.balign 64
softsgx_enter_enclave:
	.cfi_startproc
	push %rbp
	.cfi_def_cfa_offset 16
	.cfi_offset rbp, -16
	mov %rsp, %rbp
	.cfi_def_cfa_register rbp
	push %rbx
	.cfi_offset rbx, -24
	mov %ecx, %eax

// eax: the ENCLU function. Only rax, rbx and rcx are ours: all others pass through to the enclave.
.Lenter:
	lea -ENCLU_EENTER(%rax), %ebx
	cmp $1, %ebx
	ja .Linvalid
	mov RUN_ARGUMENT(%rbp), %rbx
	mov $RUN_RESERVED, %ecx
.Lcheck_reserved:
	cmpq $0, (%rbx, %rcx)
	jne .Linvalid
	add $8, %ecx
	cmp $RUN_SIZE, %ecx
	jb .Lcheck_reserved
	mov RUN_TCS(%rbx), %rbx
	lea softsgx_vdso_enclu(%rip), %rcx

// Entry point and AEP in one: an interrupt comes back here with rax = ERESUME and simply resumes.
softsgx_vdso_enclu:
	.byte 0x0f, 0x01, 0xd7

	mov RUN_ARGUMENT(%rbp), %rbx
	movl $ENCLU_EEXIT, RUN_FUNCTION(%rbx)

.Lleft:
	cmpq $0, RUN_USER_HANDLER(%rbx)
	jne .Lcall_handler
	xor %eax, %eax
.Lreturn:
	mov SAVED_RBX(%rbp), %rbx
	leave
	.cfi_remember_state
	.cfi_def_cfa rsp, 8
	ret
	.cfi_restore_state

.Linvalid:
	mov $-EINVAL, %eax
	jmp .Lreturn

// An exception at the ENCLU, or in the enclave: eax has the function, rdi the vector, rsi the error code, rdx the address.
softsgx_vdso_exception:
	mov RUN_ARGUMENT(%rbp), %rbx
	mov %eax, RUN_FUNCTION(%rbx)
	mov %di, RUN_VECTOR(%rbx)
	mov %si, RUN_ERROR_CODE(%rbx)
	mov %rdx, RUN_ADDRESS(%rbx)
	jmp .Lleft

// int handler(rdi, rsi, rdx, rsp at exit, r8, r9, run): the enclave may have left things on the stack for it.
.Lcall_handler:
	mov RUN_USER_HANDLER(%rbx), %rax
	mov %rsp, %rcx
	and $-16, %rsp
	push %rbx
	push %rbx
	mov %rcx, %rbx
	cld
	call *%rax
	mov %rbx, %rsp
	test %eax, %eax
	jle .Lreturn
	jmp .Lenter
	.cfi_endproc
	.size softsgx_enter_enclave, . - softsgx_enter_enclave

	.section .note.GNU-stack, "", @progbits
