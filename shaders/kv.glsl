// The KV cache's page, as kernels see it. One KV head of one layer of a page holds K [32][HEAD_DIM],
// V [32][HEAD_DIM], and in int8 also the f16 scales K [32], V [32]. Every token is quantised alone
// (symmetric, one scale), so that rolling back never touches a neighbour.
#ifndef KV_CONSTANTS
#define KV_CONSTANTS 1 // the first of the specialisation constants of attention
#endif
layout(constant_id = KV_CONSTANTS) const uint HEAD_DIM = 64;
#ifndef KV_OPERANDS // else `p` is a variable
layout(push_constant, scalar) uniform Push { vly_push_attention p; };
#endif

#if KV_INT8
#define KV_QUADS 4 // quads of values in a 16-byte part
#else
#define KV_QUADS 2
#endif
#define KV_PARTS (HEAD_DIM / (4 * KV_QUADS)) // parts of a token's K or V
#define KV_K 0u
#define KV_V 1u

vly_page page_of(uint slot, uint pos)
{
    return p.pages.at[slot * p.pages_stride + pos / VLY_PAGE_TOKENS];
}

// Quad of K or V of a position, from the page's start.
uint kv_quad_of(uint which, uint kv_head, uint pos)
{
    return p.layer_quad + kv_head * p.head_quads +
           (which * VLY_PAGE_TOKENS + pos % VLY_PAGE_TOKENS) * KV_PARTS;
}

uint kv_scales_quad(uint which, uint kv_head)
{
    return p.layer_quad + kv_head * p.head_quads + 2u * VLY_PAGE_TOKENS * KV_PARTS +
           which * (VLY_PAGE_TOKENS / 8u);
}

uvec4 kv_read(vly_page page, uint quad)
{
#if VLY_TEXEL
    return texelFetch(view_kv, int(page.quad + quad));
#else
    return RefKv(uvec2(page.address_lo, page.address_hi)).at[quad];
#endif
}

float kv_read_scale(vly_page page, uint which, uint kv_head, uint pos)
{
#if KV_INT8
    uint i = pos % VLY_PAGE_TOKENS;
    uint word = kv_read(page, kv_scales_quad(which, kv_head) + i / 8u)[i % 8u / 2u];
    return unpackHalf2x16((i & 1u) != 0u ? word >> 16 : word).x;
#else
    return 1.0;
#endif
}

// Four values of a part, before the scale.
vec4 kv_unpack(uvec4 part, uint j)
{
#if KV_INT8
#if VLY_TEXEL
    int q = int(part[j]);
    return vec4(q << 24 >> 24, q << 16 >> 24, q << 8 >> 24, q >> 24);
#else
    // GPUs convert integers slowly: the bytes, made positive, become the last bits of 2^23 + byte.
    uint q = part[j] ^ 0x80808080u;
    uvec4 bits = uvec4(q, q >> 8, q >> 16, q >> 24) & 0xffu | 0x4b000000u;
    precise vec4 v = uintBitsToFloat(bits) - (8388608.0 + 128.0);
    return v;
#endif
#else
    return vec4(unpackHalf2x16(part[2u * j]), unpackHalf2x16(part[2u * j + 1u]));
#endif
}

// The scale of a token whose largest magnitude is `high`, as it will be stored.
float kv_scale(float high)
{
#if KV_INT8
    return f16_nearest(vec2(min(high / 127.0, 65504.0), 0.0)).x; // and never infinite
#else
    return 1.0;
#endif
}

// What storing and reading back makes of four values, before the scale.
vec4 kv_round(vec4 v, float scale)
{
#if KV_INT8
    precise float inverse = scale > 0.0 ? 1.0 / scale : 0.0;
    precise vec4 q = v * inverse;
    return clamp(roundEven(q), -127.0, 127.0);
#else
    return vec4(f16_nearest(v.xy), f16_nearest(v.zw));
#endif
}

// Quad of a step token's fresh K or V in the activations.
uint fresh_quad(uint which, uint token, uint kv_head)
{
    return p.qkv_quad + token * p.qkv_stride +
           (p.n_head + which * p.n_head_kv + kv_head) * (HEAD_DIM / 4u);
}

float quad_max(vec4 v)
{
    vec4 a = abs(v);
    return max(max(a.x, a.y), max(a.z, a.w));
}

// Four values as their page has them.
#if KV_INT8
#define KV_QUAD_WORDS 1
#else
#define KV_QUAD_WORDS 2
#endif
struct kv_words { uint word[KV_QUAD_WORDS]; };

kv_words kv_pack(vec4 v, float scale)
{
    kv_words words;
    v = kv_round(v, scale);
#if KV_INT8
    ivec4 q = ivec4(v) & 255;
    words.word[0] = uint(q.x | q.y << 8 | q.z << 16 | q.w << 24);
#else
    words.word[0] = packHalf2x16(v.xy);
    words.word[1] = packHalf2x16(v.zw);
#endif
    return words;
}

// Stores quad i of a token's K or V.
void kv_store_words(uint which, uint slot, uint pos, uint kv_head, uint i, kv_words words)
{
    vly_page page = page_of(slot, pos);
    RefKv1 at = RefKv1(uvec2(page.address_lo, page.address_hi));
    for (uint w = 0; w < KV_QUAD_WORDS; w++)
        at.at[kv_quad_of(which, kv_head, pos) * 4u + i * KV_QUAD_WORDS + w] = words.word[w];
}

// Two tokens share a word of scales and may be stored at the same time: each changes its own half.
void kv_store_scale(uint which, uint slot, uint pos, uint kv_head, float scale)
{
#if KV_INT8
    vly_page page = page_of(slot, pos);
    RefKv1 words = RefKv1(uvec2(page.address_lo, page.address_hi));
    uint i = pos % VLY_PAGE_TOKENS, at = kv_scales_quad(which, kv_head) * 4u + i / 2u;
    uint shift = (i & 1u) * 16u;
    atomicAnd(words.at[at], ~(0xffffu << shift));
    atomicOr(words.at[at], packHalf2x16(vec2(scale, 0.0)) << shift);
#endif
}

// Quantises K and V of a step's token into its page. Called by a whole subgroup.
void kv_store(uint token, uint kv_head)
{
    uint pos = p.step.s.token[token].pos, slot = p.step.s.token[token].slot;
    for (uint which = KV_K; which <= KV_V; which++) {
        uint from = fresh_quad(which, token, kv_head);
        float high = 0.0;
        for (uint i = gl_SubgroupInvocationID; i < HEAD_DIM / 4u; i += gl_SubgroupSize)
            high = max(high, quad_max(READ_ACT(from + i)));
        float scale = kv_scale(subgroupMax(high));
        for (uint i = gl_SubgroupInvocationID; i < HEAD_DIM / 4u; i += gl_SubgroupSize)
            kv_store_words(which, slot, pos, kv_head, i, kv_pack(READ_ACT(from + i), scale));
        if (subgroupElect()) kv_store_scale(which, slot, pos, kv_head, scale);
    }
}
