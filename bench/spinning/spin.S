# Where a stopped thread waits in the paper's way: inside the enclave, burning its time slice, until the gate opens. Then
# it goes where a parked thread is, and stage 1 puts its registers back. No stack, no register is used.
#include "trusted/core/offsets.h"

        .hidden sealift_gate, sealift_park
        .section .text.sealift_spin, "ax", @progbits
        .globl  sealift_spin
        .hidden sealift_spin
        .type   sealift_spin, @function
sealift_spin:
        cmpl    $GATE_OPEN, sealift_gate(%rip)
        je      sealift_park
        pause
        jmp     sealift_spin
        .section .note.GNU-stack, "", @progbits
