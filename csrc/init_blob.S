/* The built init program (csrc/init.c, keeper.c, pid1.c) as bytes inside nsbox.core; core.c hands them to a memfd. */
	.section .rodata, "a", %progbits
	.balign	16
	.globl	nsb_init_start
	.hidden	nsb_init_start
	.type	nsb_init_start, %object
nsb_init_start:
	.incbin	NSB_INIT_PATH
	.globl	nsb_init_end
	.hidden	nsb_init_end
	.type	nsb_init_end, %object
nsb_init_end:
	.byte	0
	.size	nsb_init_start, nsb_init_end - nsb_init_start
	.section .note.GNU-stack, "", %progbits
