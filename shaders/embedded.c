/* The compiled shaders, as the assembler takes them from the build directory. */
#include "gpu/shader_table.h"

/* The words lie in the read-only section between two local labels. */
#define VLY_SHADER(name, file, defines)                                                            \
    __asm__(".pushsection .rodata\n"                                                               \
            ".balign 4\n"                                                                          \
            "vly_spv_" #name ":\n"                                                                 \
            ".incbin \"" VLY_SPV_DIR "/" #name ".spv\"\n"                                          \
            "vly_spv_end_" #name ":\n"                                                             \
            ".popsection\n");                                                                      \
    extern const uint32_t vly_spv_##name[], vly_spv_end_##name[];
#include "shaders/shaders.def"
#undef VLY_SHADER

const vly_shader_binary vly_shader_table[VLY_N_SHADERS] = {
#define VLY_SHADER(name, file, defines) {#name, vly_spv_##name, vly_spv_end_##name},
#include "shaders/shaders.def"
#undef VLY_SHADER
};
