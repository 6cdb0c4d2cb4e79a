// The residual stream's start: x = the token's embedding, xn = x * weights of the first norm, and the
// sum of x's squares. One subgroup a token.
#version 460
#extension GL_GOOGLE_include_directive : require
#define VLY_TEXEL 0
#include "common.glsl"
layout(push_constant, scalar) uniform Push { vly_push_embed p; };
layout(constant_id = 1) const uint HALF_OUT = 0; // 1: xn as matrix units read it
#include "quant/format.glsl"

void main()
{
    uint token = gl_WorkGroupID.x;
    if (token == 0u)
        for (uint i = gl_SubgroupInvocationID; i < p.n_chain; i += gl_SubgroupSize)
            RefU1(uvec2(p.act)).at[p.chain_word + i * VLY_CHAIN_STRIDE] = 0u;
    if (token >= p.step.s.n_tok) return;
    uvec2 start = row_start(p.step.s.token[token].id);
    precise float squares = 0.0;
    for (uint part = gl_SubgroupInvocationID; part < p.blocks * PARTS; part += gl_SubgroupSize) {
        Weights w = read_weights(start, part);
        [[unroll]] for (uint j = 0; j < QUADS; j++) {
            uint quad = part * QUADS + j;
            precise vec4 x = weights_quad(w, j);
            precise vec4 xn = x * READ_ACT(p.norm_quad + quad);
            p.act.at[p.x_quad + token * p.stride + quad] = x;
            uint stride = HALF_OUT == 0u ? p.stride : half_stride(p.blocks * 32u);
            store_x_quad(p.act, HALF_OUT, p.xn_quad + token * stride, quad, xn);
            squares = dot_add(x, x, squares);
        }
    }
    squares = subgroupAdd(squares);
    if (subgroupElect())
        p.act.at[p.squares_quad + token] = vec4(squares, 0.0, 0.0, 0.0);
}
