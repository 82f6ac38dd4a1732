# The smallest guest that a migration means something to: a multiboot kernel (QEMU: -kernel) that fills FILL bytes with
# numbers that do not compress to nothing, and then for ever counts: it writes the count into each page of a WORK area, checks
# all of it and of the filled area's first words, and says on the debug console (port 0xe9) one line a round: the count
# in hex, or "BAD" when memory is not what it wrote.
        .equ MAGIC, 0x1badb002
        .equ FILL_AT, 0x800000
        .equ FILL, 0x1800000            # 24 MiB
        .equ WORK_AT, 0x2400000
        .equ WORK, 0x400000             # 4 MiB
        .equ PAGE, 4096

        .section .text
        .code32
        .align 4
        .long MAGIC, 0, -MAGIC

        .globl _start
_start: mov $stack, %esp
        # x = x * 1664525 + 1013904223, as good as random to a compressor
        mov $FILL_AT, %edi
        mov $1, %eax
1:      imul $1664525, %eax, %eax
        add $1013904223, %eax
        mov %eax, (%edi)
        add $4, %edi
        cmp $FILL_AT + FILL, %edi
        jb 1b

        xor %ebx, %ebx                  # the count
round:  inc %ebx
        mov $WORK_AT, %edi
2:      mov %ebx, (%edi)
        add $PAGE, %edi
        cmp $WORK_AT + WORK, %edi
        jb 2b

        mov $WORK_AT, %edi
3:      cmp %ebx, (%edi)
        jne bad
        add $PAGE, %edi
        cmp $WORK_AT + WORK, %edi
        jb 3b

        mov $FILL_AT, %edi
        mov $1, %eax
        mov $1024, %ecx
4:      imul $1664525, %eax, %eax
        add $1013904223, %eax
        cmp %eax, (%edi)
        jne bad
        add $4, %edi
        loop 4b

        mov %ebx, %edx
        mov $8, %ecx
5:      rol $4, %edx
        mov %dl, %al
        and $15, %al
        add $'0', %al
        cmp $'9', %al
        jbe 6f
        add $'a' - '9' - 1, %al
6:      outb %al, $0xe9
        loop 5b
        mov $'\n', %al
        outb %al, $0xe9
        # Not as fast as it could: the host has better things to do with its CPUs than to write the log.
        mov $20000, %ecx
7:      pause
        loop 7b
        jmp round

bad:    mov $'B', %al
        outb %al, $0xe9
        mov $'A', %al
        outb %al, $0xe9
        mov $'D', %al
        outb %al, $0xe9
        mov $'\n', %al
        outb %al, $0xe9
8:      hlt
        jmp 8b

        .bss
        .space 4096
stack:
