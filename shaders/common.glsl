// Included first by every kernel: extensions, references, and reads that go through device addresses
// or, where VLY_TEXEL is set, through the texel views of set 0 (see src/gpu/gpu.h).
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_buffer_reference2 : require
#extension GL_EXT_buffer_reference_uvec2 : require
#extension GL_EXT_scalar_block_layout : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_vote : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_KHR_shader_subgroup_ballot : require
#extension GL_KHR_shader_subgroup_shuffle : require
#extension GL_KHR_memory_scope_semantics : require

#define VLY_GLSL 1

layout(buffer_reference, buffer_reference_align = 16) readonly buffer RefU4 { uvec4 at[]; };
layout(buffer_reference, buffer_reference_align = 8) readonly buffer RefU2 { uvec2 at[]; };
layout(buffer_reference, buffer_reference_align = 4) buffer RefU1 { uint at[]; };
layout(buffer_reference, buffer_reference_align = 16) buffer RefAct { vec4 at[]; };
layout(buffer_reference, buffer_reference_align = 8) buffer RefAct2 { vec2 at[]; };
layout(buffer_reference, buffer_reference_align = 4) buffer RefAct1 { float at[]; };
layout(buffer_reference) readonly buffer RefPages;
layout(buffer_reference) buffer RefResults;
layout(buffer_reference, buffer_reference_align = 16) buffer RefKv { uvec4 at[]; };
layout(buffer_reference, buffer_reference_align = 4) buffer RefKv1 { uint at[]; };
layout(buffer_reference) buffer RefStep;

#include "shared.h"

layout(buffer_reference, scalar, buffer_reference_align = 4) buffer RefStep { vly_step s; };
layout(buffer_reference, scalar, buffer_reference_align = 4) buffer RefResults { vly_results s; };
layout(buffer_reference, scalar, buffer_reference_align = 16) readonly buffer RefPages { vly_page at[]; };

layout(local_size_x_id = 0) in;

#if VLY_TEXEL
layout(set = 0, binding = 0) uniform utextureBuffer view_weights;
layout(set = 0, binding = 1) uniform utextureBuffer view_words;
layout(set = 0, binding = 2) uniform textureBuffer view_act;
layout(set = 0, binding = 3) uniform utextureBuffer view_kv;
#define READ_WEIGHTS(i)      texelFetch(view_weights, int(p.weights_quad + (i)))
#define READ_WEIGHTS_PAIR(i) ((((i) & 1u) != 0u) ? READ_WEIGHTS((i) / 2u).zw : READ_WEIGHTS((i) / 2u).xy)
#define READ_WEIGHTS_WORD(i) texelFetch(view_words, int(p.weights_quad * 4u + (i))).x
#define READ_SCALES(i)       texelFetch(view_words, int(p.scales_word + (i))).x
#define READ_ACT(i)          texelFetch(view_act, int(i))
#else
#define READ_WEIGHTS(i)      p.weights.at[i]
#define READ_WEIGHTS_PAIR(i) RefU2(uvec2(p.weights)).at[i]
#define READ_WEIGHTS_WORD(i) RefU1(uvec2(p.weights)).at[i]
#define READ_SCALES(i)       p.scales.at[i]
#define READ_ACT(i)          p.act.at[i]
#endif

#define NEGATIVE_INFINITY uintBitsToFloat(0xff800000u)

// The nearest f16s, ties to even. packHalf2x16 alone may round either way, even from one kernel of a
// device to the next, and so give another value than the one that was computed with elsewhere.
vec2 f16_nearest(vec2 v)
{
    uvec2 bits = floatBitsToUint(v);
    vec2 normal = uintBitsToFloat((bits + 0xfffu + (bits >> 13 & 1u)) & ~0x1fffu);
    precise vec2 subnormal = (v + 0.75) - 0.75; // the sum's ulp is that of subnormal f16s, 2^-24
    vec2 near = mix(normal, subnormal, lessThan(abs(v), vec2(6.103515625e-5)));
    return unpackHalf2x16(packHalf2x16(near));
}

// Activations that matrix units read are f16, in the order in which the lanes of a subgroup hold the 16
// columns of a multiplication: of a unit of 64 values, lane j of 4 has those at 16 t + 2 j, + 1, + 8, + 9 for
// t = 0 .. 3. This is the word of a pair of neighbours, from the token's first; values beyond f16 saturate.
uint half_word(uint pair)
{
    uint t = pair % 32u / 8u, q = pair % 8u;
    return pair / 32u * 32u + q % 4u * 8u + t * 2u + q / 4u;
}

uint half_pair(vec2 v)
{
    return packHalf2x16(f16_nearest(clamp(v, -65504.0, 65504.0)));
}

// Quads of a token's x of n values, in units of 64.
uint half_stride(uint n)
{
    return (n + 63u) / 64u * 8u;
}

// Quad `i` of a token's x that begins at a quad, as floats or as matrix units read it.
void store_x_quad(RefAct act, uint half_form, uint quad, uint i, vec4 v)
{
    if (half_form == 0u) {
        act.at[quad + i] = v;
    } else {
        RefU1 words = RefU1(uvec2(act));
        words.at[quad * 4u + half_word(2u * i)] = half_pair(v.xy);
        words.at[quad * 4u + half_word(2u * i + 1u)] = half_pair(v.zw);
    }
}

// Four fused multiply-adds in a fixed order: the order of every sum in Volley is written out, so that
// the bits of a token do not depend on how many others are computed with it.
float dot_add(vec4 w, vec4 x, float sum)
{
    return fma(w.w, x.w, fma(w.z, x.z, fma(w.y, x.y, fma(w.x, x.x, sum))));
}
