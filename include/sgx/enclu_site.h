// An ENCLU that a software machine may turn into a jump: for assembly of both sides of the boundary.
//
// ENCLU_SITE is ENCLU, with a two-byte nop before it and room behind it that is never executed. A CPU runs it as it
// stands. softsgx, which has to take an exception at every ENCLU, may overwrite the room with a jump to itself and
// then, in one store, the nop with a jump into the room (docs/softsgx.md). A thread between the two still finds ENCLU.
//
// Who lays out a site promises:
//  - R10, R11 and the status flags carry nothing, whichever leaf is called there, and EEXIT's RCX neither;
//  - inside, at EEXIT: GS base is as EENTER set it, and no other TCS of this process has the same.
#pragma once

#define SGX_ENCLU_SITE_BYTES 32 /* also its alignment */
#define SGX_ENCLU_SITE_INSN 2   /* offset of ENCLU itself */
#define SGX_ENCLU_SITE_ROOM 7   /* offset of the room */

#ifdef __ASSEMBLER__
/* clang-format off */
.macro ENCLU_SITE
        .balign SGX_ENCLU_SITE_BYTES
        .byte   0x66, 0x90              # SGX_ENCLU_SITE_INSN bytes
        .byte   0x0f, 0x01, 0xd7
        .byte   0xeb, 0x19              # over the room
        ud2                             # the room; its text tells a site from a coincidence
        .byte   0x49, 0xbb              # movabs: so that all of it disassembles
        .ascii  "patch EN"
        .byte   0x49, 0xba
        .ascii  "CLU here"
        .byte   0x0f, 0x1f, 0x00
.endm
/* clang-format on */
#endif
