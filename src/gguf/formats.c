#include "gguf/formats.h"

#include "gguf/dequantize.h"

#include <string.h>

#define FUNCTIONS_none(name)   NULL, NULL
#define FUNCTIONS_floats(name) vly_dequantize_##name, NULL
#define FUNCTIONS_codes(name)  vly_dequantize_##name, vly_unpack_##name
#define NAME_none(name)        ""
#define NAME_floats(name)      ", " #name
#define NAME_codes(name)       ", " #name

static const vly_format formats[] = {
#define VLY_FORMAT(name, ggml_id, block_weights, block_bytes, n_scales, scale_at, kind)            \
    {VLY_FORMAT_##name, #name,    ggml_id,  block_weights,                                         \
     block_bytes,       n_scales, scale_at, FUNCTIONS_##kind(name)},
#include "gguf/formats.def"
#undef VLY_FORMAT
};

static const char computable_names[] =
#define VLY_FORMAT(name, ggml_id, block_weights, block_bytes, n_scales, scale_at, kind)            \
    NAME_##kind(name)
#include "gguf/formats.def"
#undef VLY_FORMAT
    ;

const vly_format *vly_format_by_ggml_id(uint32_t ggml_id)
{
    for (size_t i = 0; i < VLY_N_FORMATS; i++)
        if (formats[i].ggml_id == ggml_id) return &formats[i];
    return NULL;
}

const vly_format *vly_format_by_id(vly_format_id id)
{
    return &formats[id];
}

const char *vly_format_computable_names(void)
{
    return computable_names + strlen(", ");
}

static float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

float vly_f16_to_f32(uint16_t bits)
{
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16;
    uint32_t exponent = bits >> 10 & 31;
    uint32_t fraction = bits & 0x3ff;
    if (exponent == 31) return from_bits(sign | 0x7f800000 | fraction << 13);
    if (exponent == 0) {
        float magnitude = (float)fraction * 0x1p-24f;
        return sign ? -magnitude : magnitude;
    }
    return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

uint16_t vly_f32_to_f16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000;
    uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) /* NaN: quiet, with what fits of its payload */
        return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
    if (magnitude >= 0x477ff000) return (uint16_t)(sign | 0x7c00); /* rounds to 2^16 or more */
    if (magnitude < 0x33000000) return (uint16_t)sign;             /* below 2^-25 */
    /* `whole` is the fraction with its leading one; `drop` of its bits go, 13 for a normal half and
     * one more for every step below its range. */
    uint32_t exponent = magnitude >> 23;
    uint32_t whole = (magnitude & 0x7fffff) | 0x800000;
    uint32_t drop = exponent < 113 ? 126 - exponent : 13;
    uint32_t kept = whole >> drop;
    uint32_t rest = whole & ((1u << drop) - 1), half = 1u << (drop - 1);
    if (rest > half || (rest == half && (kept & 1))) kept++;
    /* A normal half's leading one is the low bit of its exponent: it, and a carry, add into it. */
    if (exponent >= 113) kept += (exponent - 113) << 10;
    return (uint16_t)(sign | kept);
}

float vly_bf16_to_f32(uint16_t bits)
{
    return from_bits((uint32_t)bits << 16);
}
