// What shaders/matrix.glsl stands for, by a workgroup of 32 invocations in place of a subgroup's lanes. All of them
// come to each of these together. Loops stay loops: each is a place to wait, and some compilers take minutes for many.
// But not too many turns: llvmpipe ends all loops of a workgroup after 65535.
#define unroll                         dont_unroll
#define gl_SubgroupInvocationID        gl_LocalInvocationIndex
#define gl_SubgroupID                  0u
#define gl_NumSubgroups                1u
#define subgroupShuffleXor(v, mask)    emulated_shuffle(v, mask)
#define subgroupAny(v)                 (emulated_count(v) != 0u)
#define subgroupBallot(v)              v
#define subgroupBallotBitCount(ballot) emulated_count(ballot)
#define float16_t(v)                   f16_nearest(vec2(v, 0.0)).x

shared float emulated_w[16 * 16], emulated_lane[32];
shared float emulated_x[8 * 16]; // [column][row]
shared uint emulated_sum;

float emulated_shuffle(float v, uint mask)
{
    barrier();
    emulated_lane[gl_LocalInvocationIndex] = v;
    barrier();
    return emulated_lane[gl_LocalInvocationIndex ^ mask];
}

uint emulated_count(bool v)
{
    barrier();
    if (gl_LocalInvocationIndex == 0u) emulated_sum = 0u;
    barrier();
    if (v) atomicAdd(emulated_sum, 1u);
    barrier();
    return emulated_sum;
}

matrix_sum coopMatMulAdd(matrix_w w, matrix_x x, matrix_sum sum)
{
    uint g = gl_LocalInvocationIndex / 4u, j = gl_LocalInvocationIndex % 4u;
    barrier();
    [[unroll]] for (uint i = 0; i < 8u; i++)
        emulated_w[(g + i / 4u * 8u) * 16u + 2u * j + i / 2u % 2u * 8u + i % 2u] = w[i];
    [[unroll]] for (uint i = 0; i < 4u; i++) emulated_x[g * 16u + 2u * j + i / 2u * 8u + i % 2u] = x[i];
    barrier();
    [[unroll]] for (uint i = 0; i < 4u; i++)
        [[unroll]] for (uint k = 0; k < 16u; k += 4u) {
            uint w_at = (g + i / 2u * 8u) * 16u + k, x_at = (2u * j + i % 2u) * 16u + k;
            vec4 a = vec4(emulated_w[w_at], emulated_w[w_at + 1u], emulated_w[w_at + 2u], emulated_w[w_at + 3u]);
            vec4 b = vec4(emulated_x[x_at], emulated_x[x_at + 1u], emulated_x[x_at + 2u], emulated_x[x_at + 3u]);
            sum[i] = dot_add(a, b, sum[i]);
        }
    return sum;
}
