	.section .rodata
	.globl softsgx_vdso_image, softsgx_vdso_image_end
	.hidden softsgx_vdso_image, softsgx_vdso_image_end
	.balign 4096
softsgx_vdso_image:
	.incbin SOFTSGX_VDSO_IMAGE
softsgx_vdso_image_end:
	.section .note.GNU-stack, "", @progbits
