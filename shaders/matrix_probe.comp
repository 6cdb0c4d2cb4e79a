// Are the operands of a matrix multiplication in the lanes that matvec_tile.comp takes for granted? Each
// lane compares what it holds of three matrices, whose elements tell their places, with what it should. And are
// f16s below the normal ones numbers too? Weights are unpacked by way of them.
#version 460
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_scalar_block_layout : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_vote : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
layout(local_size_x_id = 0) in;
layout(buffer_reference, buffer_reference_align = 4) buffer Answer { uint as_expected; };
layout(push_constant, scalar) uniform Push { Answer answer; } p;

shared float16_t halves[256];
shared float floats[128];

void main()
{
    uint lane = gl_SubgroupInvocationID, g = lane / 4u, j = lane % 4u;
    for (uint i = lane; i < 256u; i += gl_SubgroupSize) halves[i] = float16_t(i);
    for (uint i = lane; i < 128u; i += gl_SubgroupSize) floats[i] = float(i);
    barrier();
    coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseA> w;
    coopmat<float16_t, gl_ScopeSubgroup, 16, 8, gl_MatrixUseB> x;
    coopmat<float, gl_ScopeSubgroup, 16, 8, gl_MatrixUseAccumulator> sum;
    coopMatLoad(w, halves, 0, 16, gl_CooperativeMatrixLayoutRowMajor);
    coopMatLoad(x, halves, 0, 8, gl_CooperativeMatrixLayoutRowMajor);
    coopMatLoad(sum, floats, 0, 8, gl_CooperativeMatrixLayoutRowMajor);
    f16vec2 small = fma(unpackFloat2x16(lane * 0x00200001u), f16vec2(16384.0hf), f16vec2(1.0hf));
    bool keeps = float(small.x) == 1.0 + float(lane) / 1024.0 && float(small.y) == 1.0 + float(lane) / 32.0;
    bool right = keeps && gl_SubgroupSize == 32u && w.length() == 8 && x.length() == 4 && sum.length() == 4;
    if (right) {
        for (uint i = 0; i < 8u; i++) {
            uint row = g + i / 4u * 8u, column = 2u * j + i / 2u % 2u * 8u + i % 2u;
            right = right && uint(w[i]) == row * 16u + column;
        }
        for (uint i = 0; i < 4u; i++) {
            right = right && uint(x[i]) == (2u * j + i / 2u * 8u + i % 2u) * 8u + g;
            right = right && uint(sum[i]) == (g + i / 2u * 8u) * 8u + 2u * j + i % 2u;
        }
    }
    right = subgroupAll(right);
    if (lane == 0u) p.answer.as_expected = right ? 1u : 0u;
}
