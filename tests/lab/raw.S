#include "sgx/enclu_site.h"

# int lab_enclu(RawCall*), see raw.h: one ENCLU. Whatever happens, control comes back here.
#
# A hostile host need not execute ERESUME where it executed EENTER, so RSP after an AEX or an EEXIT is worth nothing: the
# thread's own stack is found in TLS. Signal handlers run on an alternate stack for the same reason.
#define RC_LEAF 0
#define RC_TCS 8
#define RC_RDI 16
#define RC_RSI 24
#define RC_RDX 32
#define RC_OUTCOME 40
#define RC_OUT_RDI 48
#define RC_OUT_RSI 56
#define RC_OUT_RDX 64
#define RC_OUT_R8 72
#define RC_OUT_RAX 96
#define RC_DIRTY 168
#define RFLAGS_DF_AC 0x40400

        .section .tbss, "awT", @nobits
        .balign 8
lab_rsp:
        .zero   8

        .bss
        .balign 64
        .globl  lab_xsave
lab_xsave:
        .zero   4096

        .text
        .globl  lab_enclu, lab_aep, lab_enclu_insn, lab_enclu_fault
        .type   lab_enclu, @function
        .balign 64
lab_enclu:
        pushq   %rbp
        pushq   %rbx
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        subq    $16, %rsp
        stmxcsr (%rsp)
        fnstcw  4(%rsp)
        movq    %rdi, 8(%rsp)
        movq    %rsp, %fs:lab_rsp@tpoff
        cmpq    $0, RC_DIRTY(%rdi)
        je      1f
        fldcw   lab_dirty_x87(%rip)
        ldmxcsr lab_dirty_mxcsr(%rip)
        pushfq
        orq     $RFLAGS_DF_AC, (%rsp)
        popfq
1:      movq    RC_TCS(%rdi), %rbx
        movq    RC_RSI(%rdi), %rsi
        movq    RC_RDX(%rdi), %rdx
        movq    RC_LEAF(%rdi), %rax
        movq    RC_RDI(%rdi), %rdi
        leaq    lab_aep(%rip), %rcx
        jmp     lab_enclu_insn
        .balign SGX_ENCLU_SITE_BYTES
lab_enclu_insn:
        ENCLU_SITE
        movq    %fs:lab_rsp@tpoff, %rsp
        movq    8(%rsp), %rcx
        movq    %rax, RC_OUT_RAX(%rcx)
        movq    %r9, 8 + RC_OUT_RAX(%rcx)
        movq    %r10, 16 + RC_OUT_RAX(%rcx)
        movq    %r11, 24 + RC_OUT_RAX(%rcx)
        movq    %r12, 32 + RC_OUT_RAX(%rcx)
        movq    %r13, 40 + RC_OUT_RAX(%rcx)
        movq    %r14, 48 + RC_OUT_RAX(%rcx)
        movq    %r15, 56 + RC_OUT_RAX(%rcx)
        pushfq
        popq    64 + RC_OUT_RAX(%rcx)
        movq    $0, RC_OUTCOME(%rcx)
        movq    %rdi, RC_OUT_RDI(%rcx)
        movq    %rsi, RC_OUT_RSI(%rcx)
        movq    %rdx, RC_OUT_RDX(%rcx)
        movq    %r8, RC_OUT_R8(%rcx)
        movl    $7, %eax                # x87, SSE, AVX: what the test enclaves may use
        xorl    %edx, %edx
        xsave64 lab_xsave(%rip)
        jmp     9f
lab_aep:
        movq    %fs:lab_rsp@tpoff, %rsp
        movq    8(%rsp), %rcx
        movq    $1, RC_OUTCOME(%rcx)
        jmp     9f
lab_enclu_fault:
        movq    %fs:lab_rsp@tpoff, %rsp
        movq    8(%rsp), %rcx
        movq    $2, RC_OUTCOME(%rcx)
9:      cld
        ldmxcsr (%rsp)
        fldcw   4(%rsp)
        addq    $16, %rsp
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbx
        popq    %rbp
        ret
        .size   lab_enclu, . - lab_enclu

        .section .rodata
        .balign 4
lab_dirty_mxcsr:
        .long   0x6000
lab_dirty_x87:
        .word   0x0c40
        .section .note.GNU-stack, "", @progbits
