// Matrices of a multiplication on matrix units, of which each lane of 32 holds some elements. With g = lane / 4 and
// j = lane % 4: of `matrix_w` 0 .. 3 of row g and 4 .. 7 of row g + 8, at columns 2 j, 2 j + 1, 2 j + 8, 2 j + 9; of
// `matrix_x` 0 .. 3 of column g, at the same rows; of `matrix_sum` 0, 1 of row g and 2, 3 of row g + 8, at columns
// 2 j, 2 j + 1. Vulkan leaves this to the device: src/model/tile.c asks it (matrix_probe.comp), and kernels use it only
// where the answer is this one. Included first.
//
// MATRIX_EMULATED, for tests: a workgroup of 32 does what such a subgroup does, on any device.
#ifdef MATRIX_EMULATED
#define matrix_w    float[8]
#define matrix_x    float[4]
#define matrix_sum  float[4]
#define MATRIX_ZERO float[4](0.0, 0.0, 0.0, 0.0)
#define f16vec2     vec2
#define halves(u)   unpackHalf2x16(u)
#else
#extension GL_KHR_cooperative_matrix : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#define matrix_w    coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseA>
#define matrix_x    coopmat<float16_t, gl_ScopeSubgroup, 16, 8, gl_MatrixUseB>
#define matrix_sum  coopmat<float, gl_ScopeSubgroup, 16, 8, gl_MatrixUseAccumulator>
#define MATRIX_ZERO matrix_sum(0.0)
#define halves(u)   unpackFloat2x16(u)
#endif
