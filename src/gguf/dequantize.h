/* The values of blocks, one function per format that Volley computes with: for checking the
 * kernels, not for speed. Each is the `dequantize` of its row in the table (formats.h). */
#ifndef VLY_GGUF_DEQUANTIZE_H
#define VLY_GGUF_DEQUANTIZE_H

#include <stddef.h>

#define VLY_DECLARE_0(name)
#define VLY_DECLARE_1(name)                                                                        \
    void vly_dequantize_##name(const void *blocks, size_t n_blocks, float *out);
#define VLY_FORMAT(name, ggml_id, block_weights, block_bytes, n_scales, scale_at, computable)      \
    VLY_DECLARE_##computable(name)
#include "gguf/formats.def"
#undef VLY_FORMAT
#undef VLY_DECLARE_1
#undef VLY_DECLARE_0

#endif
