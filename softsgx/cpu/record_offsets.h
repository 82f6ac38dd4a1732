// Offsets in ThreadRecord for assembly; thread_record.h asserts them.
#pragma once

#define RECORD_HOST_FS 0
#define RECORD_HOST_GS 8
#define RECORD_ENCLAVE_FS 16
#define RECORD_ENCLAVE_GS 24
#define RECORD_IN_ENCLAVE 32
#define RECORD_SELECTOR 36
#define RECORD_DISPATCH_ARMED 37
#define RECORD_ENTRY_GS 40
#define RECORD_MASK 48
#define RECORD_RAX 56 /* the first of `patched` */
#define RECORD_RCX 64
#define RECORD_RDX 72
#define RECORD_RBX 80
#define RECORD_RSP 88
#define RECORD_RBP 96
#define RECORD_RSI 104
#define RECORD_RDI 112
#define RECORD_R8 120
#define RECORD_R9 128
#define RECORD_R10 136
#define RECORD_R11 144
#define RECORD_R12 152
#define RECORD_R13 160
#define RECORD_R14 168
#define RECORD_R15 176
#define RECORD_RIP 184
#define RECORD_FSBASE 200
#define RECORD_GSBASE 208

#define SLOT_BYTES 0x20000 /* record and alternate stack, aligned to as much */

#define XSAVE_BYTES 0x3000 /* at its end, for a patched ENCLU; the area is 11 KiB with AMX */

#define SYS_ARCH_PRCTL 158
#define ARCH_SET_GS 0x1001
#define ARCH_SET_FS 0x1002

#ifdef __ASSEMBLER__
/* clang-format off */
// Loads FS and GS base from two fields of the record (RBX, RBP, R8, R9, R10 or R12 to R15). Overwrites RAX, and with
// system calls (bases.h), which must be allowed then, RCX, R11, RDI and RSI.
.macro LOAD_BASES record, fs, gs
	cmpb $0, softsgx_bases_by_system_calls(%rip)
	jne 77f
	mov \fs(\record), %rax
	wrfsbase %rax
	mov \gs(\record), %rax
	wrgsbase %rax
	jmp 78f
77:	mov $SYS_ARCH_PRCTL, %eax
	mov $ARCH_SET_FS, %edi
	mov \fs(\record), %rsi
	syscall
	mov $SYS_ARCH_PRCTL, %eax
	mov $ARCH_SET_GS, %edi
	mov \gs(\record), %rsi
	syscall
78:
.endm
// Keeps the enclave's FS and GS base in the record, where they are already if all that wrote them trapped, and loads the
// host's. Overwrites what LOAD_BASES does.
.macro HOST_BASES record
	cmpb $0, softsgx_bases_by_system_calls(%rip)
	jne 79f
	rdfsbase %rax
	mov %rax, RECORD_ENCLAVE_FS(\record)
	rdgsbase %rax
	mov %rax, RECORD_ENCLAVE_GS(\record)
79:	LOAD_BASES \record, RECORD_HOST_FS, RECORD_HOST_GS
.endm
/* clang-format on */
#endif
