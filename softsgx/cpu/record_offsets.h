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

#ifdef __ASSEMBLER__
/* clang-format off */
// Keeps the enclave's FS and GS base in the record and loads the host's. Overwrites RAX.
.macro HOST_BASES record
	rdfsbase %rax
	mov %rax, RECORD_ENCLAVE_FS(\record)
	rdgsbase %rax
	mov %rax, RECORD_ENCLAVE_GS(\record)
	mov RECORD_HOST_FS(\record), %rax
	wrfsbase %rax
	mov RECORD_HOST_GS(\record), %rax
	wrgsbase %rax
.endm
/* clang-format on */
#endif
