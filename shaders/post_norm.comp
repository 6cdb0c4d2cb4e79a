// The residual stream plus what a layer adds, normed before; and what the next product reads, as role ADD of
// the matrix-vector products leaves it. One subgroup a token.
#version 460
#extension GL_GOOGLE_include_directive : require
#define VLY_TEXEL 0
#include "common.glsl"
layout(push_constant, scalar) uniform Push { vly_push_post_norm p; };
layout(constant_id = 1) const uint HALF_OUT = 0; // 1: xn as matrix units read it

void main()
{
    uint token = gl_WorkGroupID.x, quads = p.dim / 4u;
    if (token >= p.step.s.n_tok) return;
    uint y_at = p.y_quad + token * p.stride, x_at = p.x_quad + token * p.stride;
    uint xn_at = p.xn_quad + token * (HALF_OUT == 0u ? p.stride : half_stride(p.dim));
    precise float squares = 0.0;
    for (uint i = gl_SubgroupInvocationID; i < quads; i += gl_SubgroupSize)
        squares = dot_add(p.act.at[y_at + i], p.act.at[y_at + i], squares);
    precise float mean = subgroupAdd(squares) / float(p.dim);
    float factor = inversesqrt(mean + p.norm_epsilon);
    squares = 0.0;
    for (uint i = gl_SubgroupInvocationID; i < quads; i += gl_SubgroupSize) {
        precise vec4 y = p.act.at[y_at + i] * factor * p.act.at[p.weights_quad + i];
        precise vec4 x = p.act.at[x_at + i] + y;
        precise vec4 xn = x * p.act.at[p.next_quad + i];
        p.act.at[x_at + i] = x;
        store_x_quad(p.act, HALF_OUT, xn_at, i, xn);
        squares = dot_add(x, x, squares);
    }
    squares = subgroupAdd(squares);
    for (uint i = gl_SubgroupInvocationID; i < p.squares_stride; i += gl_SubgroupSize)
        p.act.at[p.squares_quad + token * p.squares_stride + i] = vec4(i == 0u ? squares : 0.0, 0.0, 0.0, 0.0);
}
