#include "sgx/enclu_site.h"

# void sealift_enclu(Stay*), see enclu.h. RSP at ENCLU and at the AEP: [RSP] = the Stay, for the signal handler.

        .text
        .globl  sealift_enclu, sealift_aep, sealift_enclu_insn, sealift_enclu_fault
        .type   sealift_enclu, @function
        .balign 64
sealift_enclu:
        pushq   %rbp
        movq    %rsp, %rbp
        pushq   %rbx
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        pushq   %rdi                    # the seventh: RSP is 16-aligned now, as it must be at the call below
        subq    $16, %rsp
        stmxcsr 8(%rsp)
        fnstcw  12(%rsp)
        movq    %rdi, (%rsp)
1:      movq    0(%rdi), %rbx
        movq    16(%rdi), %rsi
        movq    24(%rdi), %rdx
        movq    32(%rdi), %r8
        movq    8(%rdi), %rdi
        movl    $2, %eax                # EENTER
        leaq    sealift_aep(%rip), %rcx
        jmp     sealift_enclu_insn
        .balign SGX_ENCLU_SITE_BYTES
sealift_enclu_insn:
        ENCLU_SITE
        # EEXIT comes back to here, with the RSP of the EENTER or of the ERESUME (the same).
        movq    (%rsp), %rcx
        movq    %rdi, 8(%rcx)
        movq    %rsi, 16(%rcx)
        movq    %rdx, 24(%rcx)
        movq    %r8, 32(%rcx)
        movq    $0, 40(%rcx)
        jmp     9f
sealift_aep:
        movq    (%rsp), %rdi
        call    sealift_at_aex
        movq    (%rsp), %rdi
        cmpq    $1, %rax
        je      8f
        ja      1b                      # into a rebuilt enclave, from the same frame
        movq    0(%rdi), %rbx
        leaq    sealift_aep(%rip), %rcx
        movl    $3, %eax                # ERESUME
        jmp     sealift_enclu_insn
sealift_enclu_fault:                    # the signal handler redirects a faulting ENCLU to here
        movq    (%rsp), %rdi
        movq    $2, 40(%rdi)
        jmp     9f
8:      movq    $1, 40(%rdi)
9:      ldmxcsr 8(%rsp)
        fldcw   12(%rsp)
        leaq    -40(%rbp), %rsp
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbx
        popq    %rbp
        ret
        .size   sealift_enclu, . - sealift_enclu
        .section .note.GNU-stack, "", @progbits
