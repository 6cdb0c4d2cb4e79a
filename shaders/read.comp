// Reads a buffer and does next to nothing with it: what the device's memory can give.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
layout(push_constant, scalar) uniform Push { vly_push_read p; };

void main()
{
    uint stride = gl_NumWorkGroups.x * gl_WorkGroupSize.x;
    uvec4 sum = uvec4(0u);
    for (uint i = gl_GlobalInvocationID.x; i < p.quads; i += 4u * stride) {
        // The host sees to it that quads is a multiple of 4 strides.
        uvec4 a = READ_WEIGHTS(i), b = READ_WEIGHTS(i + stride);
        uvec4 c = READ_WEIGHTS(i + 2u * stride), d = READ_WEIGHTS(i + 3u * stride);
        sum ^= a ^ b ^ c ^ d;
    }
    // Hardly ever so, which no compiler knows.
    uint all = sum.x ^ sum.y ^ sum.z ^ sum.w;
    if (all == 0x5eed5eedu) p.sink.at[0] = all;
}
