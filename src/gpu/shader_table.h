/* The embedded shaders (defined in shaders/embedded.c), indexed by vly_shader_id. */
#ifndef VLY_GPU_SHADER_TABLE_H
#define VLY_GPU_SHADER_TABLE_H

#include "gpu/gpu.h"

/* SPIR-V words [words, end). */
typedef struct {
    const char *name;
    const uint32_t *words, *end;
} vly_shader_binary;

extern const vly_shader_binary vly_shader_table[VLY_N_SHADERS];

#endif
