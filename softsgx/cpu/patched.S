// What a patched ENCLU jumps to (patched.h): EENTER and EEXIT without an exception.
//
// R11 is the site. Up to softsgx_patched_blocked a signal finds a thread that has not executed the leaf, from
// softsgx_patched_window on one that has; PatchedEnclu::settle puts it there. In between signals are blocked, and the
// alternate stack, on which no handler can be then, is the leaf's.
#include "sgx/enclu_site.h"
#include "softsgx/cpu/record_offsets.h"

#define XSAVE_HEADER 512
#define RFLAGS_DF_AC 0x40400
#define EENTER 2
#define EEXIT 4
#define SYS_RT_SIGPROCMASK 14
#define SIG_SETMASK 2
#define SIGSET_BYTES 8

// From the record in R10.
.macro LOAD_ALL_BUT_R10
	mov RECORD_RAX(%r10), %rax
	mov RECORD_RCX(%r10), %rcx
	mov RECORD_RDX(%r10), %rdx
	mov RECORD_RSI(%r10), %rsi
	mov RECORD_RDI(%r10), %rdi
	mov RECORD_RBP(%r10), %rbp
	mov RECORD_R8(%r10), %r8
	mov RECORD_R9(%r10), %r9
	mov RECORD_R11(%r10), %r11
	mov RECORD_R12(%r10), %r12
	mov RECORD_R13(%r10), %r13
	mov RECORD_R14(%r10), %r14
	mov RECORD_R15(%r10), %r15
	mov RECORD_RBX(%r10), %rbx
.endm

	.text
	.irp label, enter, exit, lookup, found, saved, blocked, window, end, trap
	.globl softsgx_patched_\label
	.hidden softsgx_patched_\label
	.endr
	.type softsgx_patched_enter, @function
	.balign 64
// A site outside: host FS base.
softsgx_patched_enter:
	.cfi_startproc
	.cfi_undefined rip
	cmp $EENTER, %eax
	jne softsgx_patched_trap
	mov softsgx_thread_record@gottpoff(%rip), %r10
	mov %fs:(%r10), %r10
	test %r10, %r10
	jz softsgx_patched_trap
	cmpb $0, RECORD_DISPATCH_ARMED(%r10)
	je softsgx_patched_trap
	jmp .Lsave
// A site inside: FS base is the enclave's, and GS base says which thread this is. RCX is nobody's.
softsgx_patched_exit:
	cmp $EEXIT, %eax
	jne softsgx_patched_trap
softsgx_patched_lookup:
	rdgsbase %r10
	mov %r10, %rcx
	mov %r10, %rax
	shr $12, %rcx
	shr $28, %rax
	xor %rax, %rcx
	and $0xfff, %ecx
	lea softsgx_records_inside(%rip), %rax
	mov (%rax, %rcx, 8), %rcx
	mov $EEXIT, %eax
	test %rcx, %rcx
	jz softsgx_patched_trap
	cmp %r10, RECORD_ENTRY_GS(%rcx)
	jne softsgx_patched_trap
	mov %rcx, %r10
softsgx_patched_found:
.Lsave:
	mov %rax, RECORD_RAX(%r10)
	mov %rcx, RECORD_RCX(%r10)
	mov %rdx, RECORD_RDX(%r10)
	mov %rbx, RECORD_RBX(%r10)
	mov %rsp, RECORD_RSP(%r10)
	mov %rbp, RECORD_RBP(%r10)
	mov %rsi, RECORD_RSI(%r10)
	mov %rdi, RECORD_RDI(%r10)
	mov %r8, RECORD_R8(%r10)
	mov %r9, RECORD_R9(%r10)
	movq $0, RECORD_R10(%r10)
	movq $0, RECORD_R11(%r10)
	mov %r12, RECORD_R12(%r10)
	mov %r13, RECORD_R13(%r10)
	mov %r14, RECORD_R14(%r10)
	mov %r15, RECORD_R15(%r10)
	mov %r11, RECORD_RIP(%r10)
softsgx_patched_saved:
	mov %r10, %rbx
	movb $0, RECORD_SELECTOR(%rbx)
	mov $SYS_RT_SIGPROCMASK, %eax
	mov $SIG_SETMASK, %edi
	lea .Lall_signals(%rip), %rsi
	lea RECORD_MASK(%rbx), %rdx
	mov $SIGSET_BYTES, %r10d
	syscall
	test %eax, %eax
	jz softsgx_patched_blocked
	// Refused (a program's seccomp filter): nothing has happened yet.
	mov %rbx, %r10
	LOAD_ALL_BUT_R10
	mov RECORD_RIP(%r10), %r11
	jmp softsgx_patched_trap
softsgx_patched_blocked:
	lea SLOT_BYTES - XSAVE_BYTES(%rbx), %rsp
	pushfq
	pushfq
	andq $~RFLAGS_DF_AC, (%rsp)
	popfq
	push %rbx
	cmpl $0, RECORD_IN_ENCLAVE(%rbx)
	je .Lhost_bases
	HOST_BASES %rbx
.Lhost_bases:
	// EENTER and EEXIT leave extended state alone.
	xor %eax, %eax
	mov $8, %ecx
	lea SLOT_BYTES - XSAVE_BYTES + XSAVE_HEADER(%rbx), %rdi
	rep stosq
	mov $-1, %eax
	mov $-1, %edx
	xsave64 SLOT_BYTES - XSAVE_BYTES(%rbx)
	mov %rbx, %rdi
	call softsgx_patched_leaf
	mov $-1, %eax
	mov $-1, %edx
	xrstor64 SLOT_BYTES - XSAVE_BYTES(%rbx)
	pop %rbx
	popfq
	mov RECORD_RSP(%rbx), %rsp
	mov $SYS_RT_SIGPROCMASK, %eax
	mov $SIG_SETMASK, %edi
	lea RECORD_MASK(%rbx), %rsi
	xor %edx, %edx
	mov $SIGSET_BYTES, %r10d
	syscall
softsgx_patched_window:
	mov %rbx, %r10
	cmpl $0, RECORD_IN_ENCLAVE(%r10)
	je .Lbases_loaded
	LOAD_BASES %r10, RECORD_FSBASE, RECORD_GSBASE
	movb $1, RECORD_SELECTOR(%r10)
.Lbases_loaded:
	LOAD_ALL_BUT_R10
	cmp %rbx, RECORD_RIP(%r10)
	je .Lexit
	jmp *RECORD_RIP(%r10)
// EEXIT goes to RBX.
.Lexit:
	xor %r10d, %r10d
	jmp *%rbx
softsgx_patched_end:
// Any other leaf, or one that faults: as if the site (R11) had not been patched.
softsgx_patched_trap:
	.byte 0x0f, 0x01, 0xd7
	ud2
	.cfi_endproc
	.size softsgx_patched_enter, . - softsgx_patched_enter

	.section .rodata
	.balign 8
.Lall_signals:
	.quad -1

	.section .note.GNU-stack, "", @progbits
