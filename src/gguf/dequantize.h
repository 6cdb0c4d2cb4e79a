/* The blocks of each format that Volley computes with, on the CPU, one or two functions a format:
 *   vly_dequantize_<name>  the values of blocks: what the kernels are held against
 *   vly_unpack_<name>      the integers of one block: what is laid out anew for the device
 * They are the `dequantize` and `unpack` of the format's row in the table (formats.h). */
#ifndef VLY_GGUF_DEQUANTIZE_H
#define VLY_GGUF_DEQUANTIZE_H

#include "gguf/formats.h"

#define VLY_DECLARE_none(name)
#define VLY_DECLARE_floats(name)                                                                   \
    void vly_dequantize_##name(const void *blocks, size_t n_blocks, float *out);
#define VLY_DECLARE_codes(name)                                                                    \
    VLY_DECLARE_floats(name) void vly_unpack_##name(const void *block, vly_codes *out);
#define VLY_FORMAT(name, ggml_id, block_weights, block_bytes, n_scales, scale_at, kind)            \
    VLY_DECLARE_##kind(name)
#include "gguf/formats.def"
#undef VLY_FORMAT
#undef VLY_DECLARE_codes
#undef VLY_DECLARE_floats
#undef VLY_DECLARE_none

/* What the codes of the IQ formats stand for: of IQ4_NL and IQ4_XS, IQ3_S, IQ2_XXS. */
extern const int8_t vly_values_iq4[16], vly_values_iq3_s[16], vly_values_iq2_xxs[8];

#endif
