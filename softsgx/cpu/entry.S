// Signal entry and return: with patched.S the only code that runs with an enclave's FS and GS base.
//
// The kernel enters softsgx_signal_entry on the thread's alternate stack with all signals blocked. Until FS base is the
// host's again nothing may touch TLS (stack protectors, errno), so this part is assembly. Offsets: record_offsets.h.

#include "softsgx/cpu/record_offsets.h"

#define RFLAGS_AC 0x40000

	.text
	.globl softsgx_signal_entry
	.hidden softsgx_signal_entry
	.type softsgx_signal_entry, @function
	.balign 16
// (edi: signal, rsi: siginfo, rdx: ucontext)
softsgx_signal_entry:
	.cfi_startproc
	.cfi_undefined rip
	// The kernel clears DF and TF for a handler but not AC: an enclave that set it must not make us fault.
	pushfq
	andq $~RFLAGS_AC, (%rsp)
	popfq
	// A thread that was never armed arrives on another stack: range-check before masking.
	mov %rsp, %rcx
	sub softsgx_arena_begin(%rip), %rcx
	cmp softsgx_arena_bytes(%rip), %rcx
	jae .Lno_record
	mov %rsp, %rbx  // sigreturn brings everything back
	and $-SLOT_BYTES, %rbx
	cmpl $0, RECORD_IN_ENCLAVE(%rbx)
	je .Lhost_bases
	movb $0, RECORD_SELECTOR(%rbx)
	mov %rdi, %r8
	mov %rsi, %r9
	HOST_BASES %rbx
	mov %r8, %rdi
	mov %r9, %rsi
.Lhost_bases:
	mov %rbx, %rcx
	sub $8, %rsp
	call softsgx_on_signal
	add $8, %rsp
	cmpl $0, RECORD_IN_ENCLAVE(%rbx)
	je .Lreturn
	LOAD_BASES %rbx, RECORD_ENCLAVE_FS, RECORD_ENCLAVE_GS
	movb $1, RECORD_SELECTOR(%rbx)
.Lreturn:
	ret
.Lno_record:
	xor %ecx, %ecx
	push %rcx
	call softsgx_on_signal
	pop %rcx
	ret
	.cfi_endproc
	.size softsgx_signal_entry, . - softsgx_signal_entry

// rt_sigreturn. These very bytes (48 c7 c0 0f 00 00 00 0f 05) are how unwinders and debuggers recognise a signal frame.
// Syscall User Dispatch compares the RIP *after* the instruction with its allowed range, hence the padding inside it.
	.globl softsgx_restorer_begin, softsgx_restorer, softsgx_restorer_end
	.hidden softsgx_restorer_begin, softsgx_restorer, softsgx_restorer_end
	.balign 16
	nop
softsgx_restorer_begin:
softsgx_restorer:
	mov $15, %rax
	syscall
	nop
	nop
	nop
	nop
softsgx_restorer_end:

	.section .note.GNU-stack, "", @progbits
