// Ends a block of plain decoding: its pick is the token of the next block, which is in flight behind it and
// whose step this makes, and is kept for the host, which reads it later. One invocation.
#version 460
#extension GL_GOOGLE_include_directive : require
#define VLY_TEXEL 0
#include "common.glsl"
layout(push_constant, scalar) uniform Push { vly_push_advance p; };

void main()
{
    if (gl_LocalInvocationIndex != 0u) return;
    uint block = p.step.s.n_advanced;
    uint id = p.step.s.n_rows == 0u ? VLY_NO_ID : p.results.s.id[0];
    if (id >= p.n_vocab) id = VLY_NO_ID; // no logit was a number
    p.results.s.advanced[block % VLY_MAX_AHEAD] = id;
    p.step.s.n_advanced = block + 1u;
    if (id != VLY_NO_ID) {
        vly_step_token last = p.step.s.token[0];
        p.step.s.token[0] = vly_step_token(id, last.pos + 1u, last.slot, 0u);
    } else { // the blocks in flight behind it compute nothing
        p.step.s.n_tok = 0u;
        p.step.s.n_rows = 0u;
    }
}
