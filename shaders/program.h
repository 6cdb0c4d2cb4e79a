/* Programs of the lane form (shaders/program_lane.comp): many steps of a pass in one dispatch. Compiled by C and
 * GLSL, like shared.h, which is included before. */
#ifndef VLY_PROGRAM_H
#define VLY_PROGRAM_H

#define VLY_OP_PRODUCT   0
#define VLY_OP_STORE     1 /* K and V into the pages */
#define VLY_OP_ATTENTION 2
#define VLY_N_OP_KINDS   3

/* Specialisation constants: 0 to 3 are those of products, whose role is not used, then those of attention. */
#define VLY_PROGRAM_ATTENTION 4

/* A step: jobs 0 .. jobs_x * jobs_y - 1, each what a workgroup of a kernel of its own would do. */
struct vly_op {
    VLY_U32 kind, role; /* role: of a product */
    VLY_U32 jobs_x, jobs_y;
    VLY_U32 first;  /* the first op of its phase: ops of a phase do not depend on each other */
    VLY_U32 before; /* the first op of the phase before, or `first` where there is none */
    VLY_U32 turns;  /* of all its loops, at most; for the host */
    VLY_STRUCT(vly_push_matvec) product;
    VLY_STRUCT(vly_push_attention) attention;
};

/* Counters of op i, from word i * VLY_OP_WORDS of `counters` on, a cache line to each. All 0 when a program begins. */
#define VLY_OP_WORDS 32
#define VLY_OP_TAKEN 0  /* jobs that were taken */
#define VLY_OP_DONE  16 /* jobs that are done */

struct vly_push_program {
    VLY_ADDRESS(RefOps) ops;
    VLY_ADDRESS(RefU1) counters;
    VLY_ADDRESS(RefStep) step;
    VLY_U32 begin, end; /* ops to do */
    VLY_U32 patience;   /* looks of a workgroup at jobs that others do, in all, before it leaves */
};

#endif
