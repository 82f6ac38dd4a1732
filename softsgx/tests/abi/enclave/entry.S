#include "sgx/enclu_site.h"

// Entry of the test enclave. GS base is the thread block (thread_block.h); RAX is CSSA.
#define TB_STACK0 0
#define TB_STACK1 8
#define TB_LEVEL 16        // two saved contexts: host RSP, host RBP, return address
#define LEVEL_BYTES 24
#define ENCLU_EEXIT 4

	.text
	.globl enclave_entry
enclave_entry:
	cld
	test %rax, %rax
	jne 1f
	mov %rsp, %gs:(TB_LEVEL)
	mov %rbp, %gs:(TB_LEVEL + 8)
	mov %rcx, %gs:(TB_LEVEL + 16)
	mov %gs:TB_STACK0, %rsp
	xor %ebp, %ebp
	call enclave_main
	mov %rax, %rdi
	mov %gs:(TB_LEVEL), %rsp
	mov %gs:(TB_LEVEL + 8), %rbp
	mov %gs:(TB_LEVEL + 16), %rbx
	jmp 2f
1:	mov %rsp, %gs:(TB_LEVEL + LEVEL_BYTES)
	mov %rbp, %gs:(TB_LEVEL + LEVEL_BYTES + 8)
	mov %rcx, %gs:(TB_LEVEL + LEVEL_BYTES + 16)
	mov %gs:TB_STACK1, %rsp
	xor %ebp, %ebp
	call enclave_exception
	mov %rax, %rdi
	mov %gs:(TB_LEVEL + LEVEL_BYTES), %rsp
	mov %gs:(TB_LEVEL + LEVEL_BYTES + 8), %rbp
	mov %gs:(TB_LEVEL + LEVEL_BYTES + 16), %rbx
2:	mov $ENCLU_EEXIT, %eax
	.globl enclave_exit
#ifdef ABI_SITES
	ENCLU_SITE
	.set enclave_exit, . - SGX_ENCLU_SITE_BYTES + SGX_ENCLU_SITE_INSN
#else
enclave_exit:
	.byte 0x0f, 0x01, 0xd7
#endif

// Single instructions that fault, with known addresses.
	.globl do_ud2, do_syscall, do_divide, do_int3, do_read, do_write
do_ud2:
	ud2
	ret
do_syscall:
	syscall
	ret
do_divide:
	xor %eax, %eax
	xor %edx, %edx
	xor %ecx, %ecx
	div %ecx
	ret
do_int3:
	int3
	ret
do_read:
	movzbl (%rdi), %eax
	ret
do_write:
	movb %sil, (%rdi)
	xor %eax, %eax
	ret

// (rdi: leaf, rsi: rbx, rdx: rcx, rcx: rdx) -> rax
	.globl do_enclu
do_enclu:
	push %rbx
	mov %edi, %eax
	mov %rsi, %rbx
	mov %rcx, %r8
	mov %rdx, %rcx
	mov %r8, %rdx
	.byte 0x0f, 0x01, 0xd7
	pop %rbx
	ret

// (rdi: pattern to load, rsi: where to store, rdx: stop word outside): holds every register until *rdx != 0.
	.globl hold_registers
hold_registers:
	push %rbx
	push %rbp
	push %r12
	push %r13
	push %r14
	push %r15
	push %rsi
	push %rdx
	mov %rdi, %rax
	.irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
	vmovdqu64 64 * \n(%rax), %zmm\n
	.endr
	.irp n, 0,1,2,3,4,5,6,7
	kmovq 2048 + 8 * \n(%rax), %k\n
	.endr
	mov 2112(%rax), %rbx
	mov 2120(%rax), %rcx
	mov 2128(%rax), %rsi
	mov 2136(%rax), %rdi
	mov 2144(%rax), %rbp
	.irp n, 8,9,10,11,12,13,14,15
	mov 2152 + 8 * (\n - 8)(%rax), %r\n
	.endr
	ldmxcsr 2216(%rax)
	mov (%rsp), %rdx
1:	cmpl $0, (%rdx)
	je 1b
	mov 8(%rsp), %rax
	.irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
	vmovdqu64 %zmm\n, 64 * \n(%rax)
	.endr
	.irp n, 0,1,2,3,4,5,6,7
	kmovq %k\n, 2048 + 8 * \n(%rax)
	.endr
	mov %rbx, 2112(%rax)
	mov %rcx, 2120(%rax)
	mov %rsi, 2128(%rax)
	mov %rdi, 2136(%rax)
	mov %rbp, 2144(%rax)
	.irp n, 8,9,10,11,12,13,14,15
	mov %r\n, 2152 + 8 * (\n - 8)(%rax)
	.endr
	stmxcsr 2216(%rax)
	vzeroupper
	add $16, %rsp
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbp
	pop %rbx
	ret

	.section .note.GNU-stack, "", @progbits
