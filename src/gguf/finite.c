/* Are weights numbers? Only exponents are looked at, which costs less than reading the weights. */
#include "gguf/cursor.h"
#include "gguf/gguf.h"
#include "gguf/quote.h"

#include <inttypes.h>
#include <string.h>

/* The masks of the exponents of floats that lie side by side in 8 bytes: NaN and infinity have all
 * of an exponent's bits. 0: the format has no such floats. */
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

/* Not 0 where one of the floats in `bits` has a full exponent: adding its lowest bit carries into
 * the place of the sign, which was masked out. */
static inline uint64_t full_exponents(uint64_t bits, uint64_t mask)
{
    return ((bits & mask) + (mask & ~(mask << 1))) & ~mask;
}

static bool floats_finite(const uint8_t *p, size_t n_bytes, uint64_t mask)
{
    uint64_t full = 0, bits = 0;
    size_t whole = n_bytes / sizeof bits * sizeof bits;
    for (size_t i = 0; i < whole; i += sizeof bits) {
        memcpy(&bits, p + i, sizeof bits);
        full |= full_exponents(bits, mask);
    }
    bits = 0;
    memcpy(&bits, p + whole, n_bytes - whole);
    return !(full | full_exponents(bits, mask));
}

/* `n_bytes`, 2 or 4, of each block: a constant where it is called, so that they are one load. */
static inline bool scales_finite(const uint8_t *p, size_t n_blocks, size_t stride, size_t n_bytes)
{
    uint64_t full = 0, mask = exponents_of(vly_format_by_id(VLY_FORMAT_f16));
    for (size_t i = 0; i < n_blocks; i++) {
        uint32_t bits = 0;
        memcpy(&bits, p + i * stride, n_bytes);
        full |= full_exponents(bits, mask);
    }
    return !full;
}

bool vly_format_finite(const vly_format *format, const void *blocks, size_t n_blocks)
{
    uint64_t exponents = exponents_of(format);
    if (exponents) return floats_finite(blocks, n_blocks * format->block_bytes, exponents);
    const uint8_t *scales = (const uint8_t *)blocks + format->scale_at;
    switch (format->n_scales) {
    case 1:
        return scales_finite(scales, n_blocks, format->block_bytes, 2);
    case 2:
        return scales_finite(scales, n_blocks, format->block_bytes, 4);
    default:
        return true;
    }
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
