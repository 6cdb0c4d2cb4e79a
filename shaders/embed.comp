// The residual stream's start: x = the token's embedding, xn = x * weights of the first norm, and the
// sum of x's squares, a part for each of the up to four subgroups of a token's workgroup.
#version 460
#extension GL_GOOGLE_include_directive : require
#define VLY_TEXEL 0
#include "common.glsl"
layout(push_constant, scalar) uniform Push { vly_push_embed p; };
layout(constant_id = 1) const uint HALF_OUT = 0; // 1: xn as matrix units read it
#include "quant/format.glsl"
#include "chain.glsl"

// A quad of x and of xn, tagged.
void store_tagged(uint token, uint quad, vec4 x, vec4 xn)
{
    uint x_at = p.x_quad + (token * p.stride + quad) * 2u;
    chain_store_pair(x_at, x.xy);
    chain_store_pair(x_at + 1u, x.zw);
    chain_store_x_quad(p.xn_quad + token * half_stride(p.blocks * 32u) * 2u, quad, xn);
}

void main()
{
    uint token = gl_WorkGroupID.x;
    if (token == 0u)
        for (uint i = gl_LocalInvocationIndex; i < p.chain.awaited; i += gl_WorkGroupSize.x)
            RefU1(uvec2(p.act)).at[p.chain.word + i] = 0u;
    if (token >= p.step.s.n_tok) return;
    if (chain_tagged()) {
        chain_epoch = RefU1(uvec2(p.act)).at[p.chain.word - 1u] + p.chain.residual;
        if (token == 0u && gl_LocalInvocationIndex == 0u) RefU1(uvec2(p.act)).at[p.chain.word] = chain_epoch;
    }
    uvec2 start = row_start(p.step.s.token[token].id);
    precise float squares = 0.0;
    for (uint part = gl_LocalInvocationIndex; part < p.blocks * PARTS; part += gl_WorkGroupSize.x) {
        Weights w = read_weights(start, part);
        [[unroll]] for (uint j = 0; j < QUADS; j++) {
            uint quad = part * QUADS + j;
            precise vec4 x = weights_quad(w, j);
            precise vec4 xn = x * READ_ACT(p.norm_quad + quad);
            squares = dot_add(x, x, squares);
            if (p.chain.written != 0u) {
                store_tagged(token, quad, x, xn);
                continue;
            }
            p.act.at[p.x_quad + token * p.stride + quad] = x;
            uint stride = HALF_OUT == 0u ? p.stride : half_stride(p.blocks * 32u);
            store_x_quad(p.act, HALF_OUT, p.xn_quad + token * stride, quad, xn);
        }
    }
    squares = subgroupAdd(squares);
    if (!subgroupElect()) return;
    // The last one stands for those that there are not, too.
    for (uint i = gl_SubgroupID; i < (gl_SubgroupID + 1u == gl_NumSubgroups ? 4u : gl_SubgroupID + 1u); i++) {
        float value = i == gl_SubgroupID ? squares : 0.0;
        if (p.chain.written != 0u)
            chain_store(p.squares_quad + token * 2u, i, floatBitsToUint(value));
        else
            RefAct1(uvec2(p.act)).at[(p.squares_quad + token) * 4u + i] = value;
    }
}
