# Entry, exit and stage 2: the only code through which a thread crosses the enclave's boundary.
#
# Survival rules (read before changing a line):
#  - At sealift_entry every register but RAX (CSSA), RBX (TCS), RCX (return address) and GS base is the host's.
#  - Until `Running` is published AND the gate was seen open, nothing outside the core area is written.
#  - After a state other than Running is published, nothing that a checkpoint contains is written.
#  - Instructions in [sealift_entry, sealift_entry_window_end) and [sealift_entry_bail, sealift_entry_bail_end) are known
#    to stage 1 by address: a thread interrupted there is never parked and never redirected; if the gate is closed stage 1
#    sends it to sealift_entry_bail, which may be begun again as long as it has not taken the state back
#    (design §6.3; SmashEx, CVE-2021-0186, is what happens otherwise).
#include "sgx/enclu_site.h"
#include "trusted/core/offsets.h"

        .hidden sealift_gate, sealift_config, sealift_thread_blocks, sealift_control, sealift_stage1, sealift_syscall
        .hidden sealift_control_stack_top, sealift_control_tls

        .section .text.sealift_entry, "ax", @progbits

# Flags, SSE and x87 control to the ABI's defaults. Needs a stack of a few words in the core area.
.macro CLEAN_CONTROL_STATE
        cld
        pushq   $2
        popfq
        fninit
        ldmxcsr sealift_mxcsr_default(%rip)
.endm

        .balign 64
        .globl  sealift_entry
        .hidden sealift_entry
        .type   sealift_entry, @function
sealift_entry:
        cmpq    $1, %rax
        je      stage1_entry
        ja      trap
        movq    %rcx, %gs:TB_EXIT0_RIP
        movq    %rsp, %gs:TB_EXIT0_RSP
        movq    %rbp, %gs:TB_EXIT0_RBP
        movl    %gs:TB_STATE, %eax
        cmpl    $STATE_PARKED, %eax
        je      sealift_park            # a restored thread: the CPU makes CSSA 1 here
        cmpq    $REQUEST_CONTROL, %rdi
        je      control_entry
        cmpq    $REQUEST_CALL, %rdi
        je      1f
        cmpq    $REQUEST_OCALL_RETURN, %rdi
        je      2f
        cmpq    $REQUEST_THREAD_START, %rdi
        je      3f
        cmpq    $REQUEST_OCALL_ANSWERED, %rdi
        je      5f
        movl    $ERRC_BAD_REQUEST, %esi
        jmp     refuse
# The host says whether its answer is one. An answer is the host's word in any case; and of a thread that is InOcall no
# checkpoint contains this flag (format.md), so it may be written before Running is published.
5:      cmpl    $STATE_INOCALL, %eax
        jne     2f
        movl    $0, %gs:TB_MIGRATED
        jmp     2f
1:      movl    $STATE_FREE, %ebx
        jmp     4f
2:      movl    $STATE_INOCALL, %ebx
        jmp     4f
3:      movl    $STATE_STARTING, %ebx
4:      movl    $ERRC_WRONG_STATE, %ecx
        cmpl    %ebx, %eax
        jne     refuse_ecx
        movl    $ERRC_GATE_CLOSED, %ecx
        cmpl    $GATE_OPEN, sealift_gate(%rip)
        jne     refuse_ecx
        rdgsbase %rsp
        addq    $TB_SCRATCH_TOP, %rsp
        CLEAN_CONTROL_STATE
        movq    %gs:TB_FSBASE, %rax
        wrfsbase %rax
        movl    %ebx, %gs:TB_PREV_STATE
        movl    %ebx, %eax
        movl    $STATE_RUNNING, %ecx
        lock cmpxchgl %ecx, %gs:TB_STATE       # publishes Running; a full barrier: Dekker's first half
        movl    $ERRC_WRONG_STATE, %ecx
        jne     refuse_ecx
        cmpl    $GATE_OPEN, sealift_gate(%rip) # Dekker's second half
        jne     sealift_entry_bail
        movq    %gs:TB_RESUME_RSP, %rsp
        .globl  sealift_entry_window_end
        .hidden sealift_entry_window_end
sealift_entry_window_end:
        cmpl    $STATE_STARTING, %ebx
        je      start_child
        movq    %rsi, %rax
        ldmxcsr (%rsp)
        fldcw   4(%rsp)
        addq    $8, %rsp
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbx
        popq    %rbp
        ret
start_child:
        movq    %rsp, %rdi
        jmp     sealift_frame_return

# Running was published but the gate is closed: take the state back and leave. Stage 1 also sends threads here.
        .globl  sealift_entry_bail
        .hidden sealift_entry_bail
sealift_entry_bail:
        movl    %gs:TB_PREV_STATE, %eax
        xchgl   %eax, %gs:TB_STATE
        .globl  sealift_entry_bail_end
        .hidden sealift_entry_bail_end
sealift_entry_bail_end:
        movl    $ERRC_GATE_CLOSED, %ecx
refuse_ecx:
        movl    %ecx, %esi
refuse:
        movl    $EXIT_REFUSED, %edi
        xorl    %edx, %edx
        xorl    %r8d, %r8d
        jmp     leave0

# --- Control thread ----------------------------------------------------------------------------------------------------
control_entry:
        movl    $ERRC_BAD_REQUEST, %ecx
        rdgsbase %rax
        leaq    sealift_thread_blocks(%rip), %rbx
        cmpq    %rax, %rbx                     # TCS 0 alone
        jne     refuse_ecx
        leaq    sealift_control_stack_top(%rip), %rsp
        CLEAN_CONTROL_STATE
        leaq    sealift_control_tls(%rip), %rax
        wrfsbase %rax
        movq    %rsi, %rdi
        movq    %rdx, %rsi
        xorl    %ebp, %ebp
        call    sealift_control                # (op, length) -> RAX = Errc, RDX = bytes of output
        movq    %rax, %rsi
        movl    $EXIT_DONE, %edi
        xorl    %r8d, %r8d
        jmp     leave0

# --- Stage 1 -----------------------------------------------------------------------------------------------------------
stage1_entry:
        movq    %rcx, %gs:TB_EXIT1_RIP
        movq    %rsp, %gs:TB_EXIT1_RSP
        movq    %rbp, %gs:TB_EXIT1_RBP
        rdgsbase %rsp
        addq    $TB_STAGE1_TOP, %rsp
        CLEAN_CONTROL_STATE
        movq    %rdi, %rsi
        rdgsbase %rdi
        xorl    %ebp, %ebp
        call    sealift_stage1                 # (thread block, request): the answer is in the thread block
        movq    %gs:TB_ANSWER_REASON, %rdi
        movq    %gs:TB_ANSWER_A, %rsi
        movq    %gs:TB_ANSWER_B, %rdx
        movq    %gs:TB_ANSWER_C, %r8
        movq    %gs:TB_EXIT1_RIP, %rbx
        movq    %gs:TB_EXIT1_RSP, %rsp
        movq    %gs:TB_EXIT1_RBP, %rbp
        jmp     leave_common

# --- Leaving -----------------------------------------------------------------------------------------------------------
# uint64_t sealift_leave(Exit reason, uint64_t a, uint64_t b, uint32_t new_state)
# Saves the C context on the thread's stack, publishes new_state, leaves. Returns when an entry finds that state:
# RAX = the host's RSI, RDX = the host's RDX (both hostile).
        .globl  sealift_leave
        .hidden sealift_leave
        .type   sealift_leave, @function
sealift_leave:
        pushq   %rbp
        pushq   %rbx
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        subq    $8, %rsp
        stmxcsr (%rsp)
        fnstcw  4(%rsp)
        movq    %rsp, %gs:TB_RESUME_RSP
        xorl    %r8d, %r8d
        xchgl   %ecx, %gs:TB_STATE             # published: nothing that a checkpoint contains is written from here on
leave0:
        movq    %gs:TB_EXIT0_RIP, %rbx
        movq    %gs:TB_EXIT0_RSP, %rsp
        movq    %gs:TB_EXIT0_RBP, %rbp
leave_common:                                  # RDI, RSI, RDX, R8: the answer. Everything else is wiped.
        movq    %rdx, %r9
        movl    sealift_config+CONFIG_XFRM(%rip), %eax
        xorl    %edx, %edx
        xrstor  sealift_clean_xsave(%rip)
        movq    %r9, %rdx
        xorl    %r9d, %r9d
        xorl    %r10d, %r10d
        xorl    %r11d, %r11d
        xorl    %r12d, %r12d
        xorl    %r13d, %r13d
        xorl    %r14d, %r14d
        xorl    %r15d, %r15d
        xorl    %ecx, %ecx
        movl    $4, %eax
        ENCLU_SITE
trap:
        ud2

# A thread's end: clears *clear_tid (its joiner may reuse the stack from then on, so this runs on a stack of core's),
# changes the word outside on which the joiner may be about to wait (the host wakes it only afterwards, and perhaps on
# another machine never), gives the TCS back and leaves.
# [[noreturn]] void sealift_thread_exit(uint32_t* clear_tid, uint64_t futex_word, uint32_t* outside)
        .globl  sealift_thread_exit
        .hidden sealift_thread_exit
        .type   sealift_thread_exit, @function
sealift_thread_exit:
        rdgsbase %rsp
        addq    $TB_SCRATCH_TOP, %rsp
        movl    $STATE_UNBOUND, %ecx
        xorl    %eax, %eax
        movq    %rax, %gs:TB_RESUME_RSP
        movq    %rax, %gs:TB_FSBASE
        movq    %rax, %gs:TB_CLEAR_TID
        testq   %rdi, %rdi
        je      1f
        movl    %eax, (%rdi)
        lock incl (%rdx)
1:      xchgl   %ecx, %gs:TB_STATE
        movl    $EXIT_THREAD_EXIT, %edi
        xorl    %edx, %edx
        xorl    %r8d, %r8d
        jmp     leave0

# --- Parking -----------------------------------------------------------------------------------------------------------
# SSA[0].RIP of a parked thread. ERESUME into it is #UD, and nothing has run.
        .balign 16
        .globl  sealift_park
        .hidden sealift_park
sealift_park:
        ud2

# --- Stage 2: a `syscall` of application code, at CSSA 0, on the interrupted thread's own stack -------------------------
# RDI = frame (64-aligned, = RSP); its general registers are filled in by stage 1. The vector state is saved here in a
# form of our own, as XSAVE's layout differs between vendors and a frame must be readable on either (trap-engine).
        .globl  sealift_stage2
        .hidden sealift_stage2
sealift_stage2:
        fxsave64 FRAME_FXSAVE(%rdi)
        movl    sealift_config+CONFIG_XFRM(%rip), %eax
        testl   $0x40, %eax
        jne     1f
        testl   $4, %eax
        je      3f
        .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
        vmovdqu %ymm\n, FRAME_VECTORS + 32 * \n(%rdi)
        .endr
        jmp     3f
1:
        .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
        vmovdqu64 %zmm\n, FRAME_VECTORS + 64 * \n(%rdi)
        .endr
        .irp    n, 0,1,2,3,4,5,6,7
        kmovq   %k\n, FRAME_OPMASK + 8 * \n(%rdi)
        .endr
3:      movq    %rdi, %rbx
        xorl    %ebp, %ebp
        leaq    FRAME_GPRS(%rdi), %rdi
        ldmxcsr sealift_mxcsr_default(%rip)
        call    sealift_syscall
        movq    %rbx, %rdi

# RDI = frame: continue the thread that it describes, RCX and R11 as after `syscall`.
        .globl  sealift_frame_return
        .hidden sealift_frame_return
sealift_frame_return:
        movl    sealift_config+CONFIG_XFRM(%rip), %eax
        testl   $0x40, %eax
        jne     1f
        testl   $4, %eax
        je      3f
        .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
        vmovdqu FRAME_VECTORS + 32 * \n(%rdi), %ymm\n
        .endr
        jmp     3f
1:
        .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
        vmovdqu64 FRAME_VECTORS + 64 * \n(%rdi), %zmm\n
        .endr
        .irp    n, 0,1,2,3,4,5,6,7
        kmovq   FRAME_OPMASK + 8 * \n(%rdi), %k\n
        .endr
3:      fxrstor64 FRAME_FXSAVE(%rdi)
        leaq    FRAME_GPRS(%rdi), %rdi
        pushq   GPR_RFLAGS(%rdi)
        popfq
        movq    GPR_RAX(%rdi), %rax
        movq    GPR_RDX(%rdi), %rdx
        movq    GPR_RBX(%rdi), %rbx
        movq    GPR_RBP(%rdi), %rbp
        movq    GPR_RSI(%rdi), %rsi
        movq    GPR_R8(%rdi), %r8
        movq    GPR_R9(%rdi), %r9
        movq    GPR_R10(%rdi), %r10
        movq    GPR_RFLAGS(%rdi), %r11
        movq    GPR_R12(%rdi), %r12
        movq    GPR_R13(%rdi), %r13
        movq    GPR_R14(%rdi), %r14
        movq    GPR_R15(%rdi), %r15
        movq    GPR_RIP(%rdi), %rcx
        movq    GPR_RSP(%rdi), %rsp
        movq    GPR_RDI(%rdi), %rdi            # the frame is below the red zone until this load, see stage 1
        jmp     *%rcx

# void sealift_jump(void* stack, void* rip): first entry into glibc's start-up code.
        .globl  sealift_jump
        .hidden sealift_jump
sealift_jump:
        movq    %rdi, %rsp
        xorl    %ebp, %ebp
        xorl    %edx, %edx                     # no rtld_fini
        jmp     *%rsi

        .section .rodata.sealift_entry, "a", @progbits
        .balign 64
sealift_clean_xsave:                           # XSTATE_BV = 0: XRSTOR initialises every component
        .fill   24, 1, 0
        .long   0x1f80
        .fill   4096 - 28, 1, 0
sealift_mxcsr_default:
        .long   0x1f80
        .section .note.GNU-stack, "", @progbits
