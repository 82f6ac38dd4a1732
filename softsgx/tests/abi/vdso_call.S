// Calls __vdso_sgx_enter_enclave, which does not preserve r12-r15 when the enclave was left by an exception.
	.text
// int vdso_call(function, run, rdi, rsi, rdx, vdso): edi, rsi, rdx, rcx, r8, r9
	.globl vdso_call
	.type vdso_call, @function
vdso_call:
	.cfi_startproc
	push %rbx
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %rbx, 0
	push %r12
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %r12, 0
	push %r13
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %r13, 0
	push %r14
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %r14, 0
	push %r15
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %r15, 0
	push %rsi
	.cfi_adjust_cfa_offset 8
	mov %r9, %rax
	mov %rcx, %rsi
	mov %edi, %ecx
	mov %rdx, %rdi
	mov %r8, %rdx
	mov $0x88, %r8d
	mov $0x99, %r9d
	call *%rax
	add $8, %rsp
	.cfi_adjust_cfa_offset -8
	pop %r15
	.cfi_adjust_cfa_offset -8
	pop %r14
	.cfi_adjust_cfa_offset -8
	pop %r13
	.cfi_adjust_cfa_offset -8
	pop %r12
	.cfi_adjust_cfa_offset -8
	pop %rbx
	.cfi_adjust_cfa_offset -8
	ret
	.cfi_endproc
	.size vdso_call, . - vdso_call
	.section .note.GNU-stack, "", @progbits
