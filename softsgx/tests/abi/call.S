#include "sgx/enclu_site.h"

// A host's own ENCLU with its own AEP, as a runtime that does not use the vDSO has it.
#define ENCLU_ERESUME 3

// struct CallState: what the AEP and the return find.
#define CS_LEAF 0
#define CS_TCS 8
#define CS_RDI 16
#define CS_RSI 24
#define CS_RDX 32
#define CS_OUT_RDI 40
#define CS_OUT_RAX 48
#define CS_OUT_RBX 56
#define CS_OUT_RCX 64
#define CS_OUT_FLAGS 72
#define RFLAGS_AC 0x40000

	.text
// int abi_call(CallState*): 0 after EEXIT, 1 at the AEP, 2 if `abi_call_fixup` was made the RIP by a signal handler.
	.globl abi_call, abi_call_enclu, abi_call_aep, abi_call_fixup
	.type abi_call, @function
abi_call:
	push %rbp
	mov %rsp, %rbp
	push %rbx
	push %r12
	push %r13
	push %r14
	push %r15
	push %rdi
	mov CS_LEAF(%rdi), %rax
	mov CS_TCS(%rdi), %rbx
	mov CS_RSI(%rdi), %rsi
	mov CS_RDX(%rdi), %rdx
	lea abi_call_aep(%rip), %rcx
	mov CS_RDI(%rdi), %rdi
#ifdef ABI_SITES
	ENCLU_SITE
	.set abi_call_enclu, . - SGX_ENCLU_SITE_BYTES + SGX_ENCLU_SITE_INSN
#else
abi_call_enclu:
	.byte 0x0f, 0x01, 0xd7
#endif
	mov -48(%rbp), %rcx
	mov %rdi, CS_OUT_RDI(%rcx)
	pushfq
	pop CS_OUT_FLAGS(%rcx)
	xor %eax, %eax
	jmp 1f
abi_call_aep:
	mov -48(%rbp), %rdi
	mov %rax, CS_OUT_RAX(%rdi)
	mov %rbx, CS_OUT_RBX(%rdi)
	mov %rcx, CS_OUT_RCX(%rdi)
	mov $1, %eax
	jmp 1f
abi_call_fixup:
	mov $2, %eax
1:	pushfq
	andl $~RFLAGS_AC, (%rsp)
	popfq
	cld
	mov -8(%rbp), %rbx
	mov -16(%rbp), %r12
	mov -24(%rbp), %r13
	mov -32(%rbp), %r14
	mov -40(%rbp), %r15
	leave
	ret
	.size abi_call, . - abi_call

	.section .note.GNU-stack, "", @progbits
