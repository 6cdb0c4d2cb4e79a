/* Are weights numbers, and ones that f16 has? Only exponents are looked at, which costs less than
 * reading the weights. */
#include "gguf/cursor.h"
#include "gguf/gguf.h"
#include "gguf/quote.h"

#include <inttypes.h>
#include <string.h>

/* The masks of the exponents of floats that lie side by side in 8 bytes. 0: the format has no such
 * floats. */
static uint64_t exponents_of(const vly_format *format)
{
    switch (format->id) {
    case VLY_FORMAT_f32:
        return UINT64_C(0x7f8000007f800000);
    case VLY_FORMAT_f16:
        return UINT64_C(0x7c007c007c007c00);
    case VLY_FORMAT_bf16:
        return UINT64_C(0x7f807f807f807f80);
    default:
        return 0;
    }
}

/* NaN and infinity have all bits of an exponent, which is 1 less than this. */
static inline uint64_t above_all(const vly_format *format)
{
    return format->id == VLY_FORMAT_f32 || format->id == VLY_FORMAT_bf16 ? 256 : 32;
}

/* What has to be added to exponents so that those that are `steps` or fewer below `above_all` carry
 * into the place of the sign. */
static inline uint64_t carry(uint64_t mask, uint64_t steps)
{
    return (mask & ~(mask << 1)) * steps;
}

/* Not 0 where one of the floats in `bits` carries so; signs are masked out. */
static inline uint64_t carries(uint64_t bits, uint64_t mask, uint64_t add)
{
    return ((bits & mask) + add) & ~mask;
}

/* Whether any of the floats has an exponent from `steps` below above_all on. */
static bool any_float(const uint8_t *p, size_t n_bytes, uint64_t mask, uint64_t steps)
{
    uint64_t any = 0, bits = 0, add = carry(mask, steps);
    size_t whole = n_bytes / sizeof bits * sizeof bits;
    for (size_t i = 0; i < whole; i += sizeof bits) {
        memcpy(&bits, p + i, sizeof bits);
        any |= carries(bits, mask, add);
    }
    bits = 0;
    memcpy(&bits, p + whole, n_bytes - whole);
    return any | carries(bits, mask, add);
}

/* `n_bytes`, 2 or 4, of each block: a constant where it is called, so that they are one load. */
static inline bool any_scale_of(const uint8_t *p, size_t n_blocks, size_t stride, size_t n_bytes,
                                uint64_t steps)
{
    uint64_t any = 0, mask = exponents_of(vly_format_by_id(VLY_FORMAT_f16));
    uint64_t add = carry(mask, steps);
    for (size_t i = 0; i < n_blocks; i++) {
        uint32_t bits = 0;
        memcpy(&bits, p + i * stride, n_bytes);
        any |= carries(bits, mask, add);
    }
    return any;
}

static bool any_scale(const vly_format *format, const void *blocks, size_t n_blocks, uint64_t steps)
{
    const uint8_t *scales = (const uint8_t *)blocks + format->scale_at;
    switch (format->n_scales) {
    case 1:
        return any_scale_of(scales, n_blocks, format->block_bytes, 2, steps);
    case 2:
        return any_scale_of(scales, n_blocks, format->block_bytes, 4, steps);
    default:
        return false;
    }
}

bool vly_format_finite(const vly_format *format, const void *blocks, size_t n_blocks)
{
    uint64_t mask = exponents_of(format);
    return mask ? !any_float(blocks, n_blocks * format->block_bytes, mask, 1)
                : !any_scale(format, blocks, n_blocks, 1);
}

unsigned vly_format_range(const vly_format *format, const void *blocks, size_t n_blocks)
{
    enum { F32_BIAS = 127, F16_BIAS = 15 };
    uint64_t mask = exponents_of(format), all = above_all(format);
    size_t n_bytes = n_blocks * format->block_bytes;
    if (format->id == VLY_FORMAT_f16) return VLY_RANGE_MIDDLE;
    if (!mask) /* codes and factors make at most 4064 times the scale of it */
        return VLY_RANGE_MIDDLE |
               (any_scale(format, blocks, n_blocks, all - (F16_BIAS + 3)) ? VLY_RANGE_HIGH : 0);
    unsigned range = 0;
    if (any_float(blocks, n_bytes, mask, all - (F32_BIAS + 15))) range |= VLY_RANGE_HIGH;
    if (any_float(blocks, n_bytes, mask, all - (F32_BIAS - 13))) range |= VLY_RANGE_MIDDLE;
    if (any_float(blocks, n_bytes, mask, all - 1)) range |= VLY_RANGE_LOW;
    return range;
}

bool vly_range_is_f16(unsigned range)
{
    return !(range & VLY_RANGE_HIGH) && (range & VLY_RANGE_MIDDLE || !(range & VLY_RANGE_LOW));
}

int vly_gguf_check_finite(const vly_gguf_tensor *tensor, const uint8_t *blocks, size_t n_blocks,
                          vly_error *err)
{
    const vly_format *format = tensor->format;
    if (vly_format_finite(format, blocks, n_blocks)) return 0;
    size_t i = 0;
    while (vly_format_finite(format, blocks + i * format->block_bytes, 1)) i++;
    uint64_t at = (uint64_t)(blocks - tensor->data) / format->block_bytes + i;
    return vly_fail(err, VLY_E_FORMAT,
                    "tensor %s: expected finite weights, got %s at weight %" PRIu64
                    " (%s): the model's weights are broken",
                    vly_quote(tensor->name).text,
                    format->n_scales ? "a scale that is NaN or infinite" : "NaN or infinity",
                    at * format->block_weights, format->name);
}
