# Compiles every row of shaders.def and embeds it (embedded.c). Included by the Makefile.
#
# rules.mk is made from shaders.def: for each row the rule that compiles it, and in <name>.row its
# options, rewritten only when they differ, so that an edit to one row compiles one shader again.
spv_dir     := $(build)/shaders
glslc_flags := -O --target-env=vulkan1.2 -Werror -fshader-stage=compute -Ishaders

$(spv_dir)/rules.mk: shaders/shaders.def shaders/shaders.mk
	@mkdir -p $(@D)
	@sed -n 's/^VLY_SHADER(\([^,]*\), *"\([^"]*\)", *"\([^"]*\)").*/\1 \2 \3/p' $< | \
	while read -r name file defines; do \
	    row="$$defines shaders/$$file"; \
	    [ "$$(cat $(spv_dir)/$$name.row 2>/dev/null)" = "$$row" ] || \
	        echo "$$row" > $(spv_dir)/$$name.row; \
	    echo "spv_files += $(spv_dir)/$$name.spv"; \
	    echo "$(spv_dir)/$$name.spv: shaders/$$file $(spv_dir)/$$name.row"; \
	done > $@.new
	@mv $@.new $@

include $(spv_dir)/rules.mk

# Shaders for matrix units: compilers that do not know GL_KHR_cooperative_matrix yet take what a newer one
# made of them, shaders/spirv/<name>.spv; `make spirv` with such a GLSLC makes these again.
matrix_shaders := matvec_tile matvec_tile_chained matmul_tile attention_tile_int8 attention_tile_f16 matrix_probe
matrix_sources := $(addprefix shaders/,matvec_tile.comp matmul_tile.comp attention_tile.comp matrix_probe.comp \
                    common.glsl shared.h matrix.glsl matvec.glsl chain.glsl tile_layouts.glsl kv.glsl)
matrix_spv     := $(matrix_shaders:%=$(spv_dir)/%.spv)
ifneq ($(shell printf '\043version 460\n\043extension GL_KHR_cooperative_matrix : require\nvoid main(){}' | \
         $(GLSLC) -fshader-stage=compute -o - - >/dev/null 2>&1 && echo known),known)
$(matrix_spv): $(spv_dir)/%.spv: shaders/spirv/%.spv
	$(call say,CP) cp $< $@
compiled_spv := $(filter-out $(matrix_spv),$(spv_files))
else
compiled_spv := $(spv_files)
endif

$(compiled_spv): shaders/shaders.mk
	$(call say,GLSLC) $(GLSLC) $(glslc_flags) -MD -MF $(@:.spv=.d) -MT $@ -o $@ \
	    $$(cat $(@:.spv=.row))

spirv: ## compile the shaders for matrix units into shaders/spirv (needs a new glslc)
	@for name in $(matrix_shaders); do \
	    $(GLSLC) $(glslc_flags) -o shaders/spirv/$$name.spv $$(cat $(spv_dir)/$$name.row) || exit 1; done
	@sha256sum $(matrix_sources) > shaders/spirv/SOURCES.sha256

$(spv_dir)/embedded.o: private CFLAGS += -DVLY_SPV_DIR='"$(spv_dir)"'
$(spv_dir)/embedded.o: $(spv_files)

# Kernels of tests, which include them as numbers: one of their own, and attention_tile.comp by what stands for
# matrix units (shaders/matrix.glsl).
shader_headers := $(addprefix $(spv_dir)/,test_gpu.inc attention_emulated_int8.inc attention_emulated_f16.inc)
$(spv_dir)/test_gpu.inc: source := tests/kernels/test_gpu.comp
$(spv_dir)/attention_emulated_int8.inc: source := -DMATRIX_EMULATED -DKV_INT8=1 -Itests/kernels shaders/attention_tile.comp
$(spv_dir)/attention_emulated_f16.inc: source := -DMATRIX_EMULATED -DKV_INT8=0 -Itests/kernels shaders/attention_tile.comp
$(shader_headers): shaders/shaders.mk
	@mkdir -p $(@D)
	$(call say,GLSLC) $(GLSLC) $(glslc_flags) -MD -MF $(@:.inc=.d) -MT $@ -mfmt=num -o $@ $(source)

# A source that is gone is not an error: the shader is compiled again without it.
shaders/%.glsl shaders/%.h shaders/%.comp: ;

-include $(spv_files:.spv=.d) $(shader_headers:.inc=.d) $(spv_dir)/embedded.d
