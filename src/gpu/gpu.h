/* The GPU as the rest of Volley sees it; the only folder that includes vulkan.h.
 *
 * The GPU is treated like a socket: work is recorded once, submitted at once, and its completion
 * arrives later, as a wait that returns or as an event of the loop. One queue; submissions run in
 * order. Everything but the completion waiter runs on one thread.
 *
 * Kernels reach memory in two ways. On GPUs they use buffer device addresses. On processors that
 * stand in for a GPU (device type CPU) reads through a device address are scalar loops, while texel
 * fetches are vector gathers, 2 to 4 times faster (docs/performance.md); so there the row-per-lane
 * kernels read through uniform texel buffers, which `vly_gpu_views` binds. */
#ifndef VLY_GPU_H
#define VLY_GPU_H

#include "base/error.h"

struct uv_loop_s;

typedef struct vly_gpu vly_gpu;
typedef struct vly_gpu_kernel vly_gpu_kernel;
typedef struct vly_gpu_commands vly_gpu_commands;
typedef struct vly_gpu_views vly_gpu_views;
typedef struct vly_gpu_upload vly_gpu_upload;

/* ---- Devices ---- */

typedef enum {
    VLY_GPU_DISCRETE,
    VLY_GPU_INTEGRATED,
    VLY_GPU_VIRTUAL,
    VLY_GPU_CPU,
    VLY_GPU_OTHER
} vly_gpu_type;

/* What a device is and can do. Choices are made from these, never from names. */
typedef struct {
    uint32_t index; /* in the order of vkEnumeratePhysicalDevices */
    char name[256];
    char driver[256]; /* driver name and its own version text: "llvmpipe Mesa 22.3.6 (LLVM 15.0.6)"
                       */
    uint32_t driver_version, vendor_id, device_id, api_version;
    uint8_t device_uuid[16], pipeline_cache_uuid[16];
    vly_gpu_type type;
    uint64_t memory_bytes; /* of the largest device-local heap */
    uint64_t
        available_bytes; /* of it, now: VK_EXT_memory_budget where there is, else memory_bytes */
    uint64_t max_buffer_bytes, max_allocation_bytes;
    uint32_t max_texel_elements;
    uint32_t subgroup_size, subgroup_size_min, subgroup_size_max;
    uint32_t max_workgroup_invocations, shared_bytes;
    double timestamp_ns; /* nanoseconds a tick; 0 where the queue has no timestamps */
    bool subgroup_size_control;
    bool int8_dot;      /* packed 4x8 signed dot products, accelerated */
    bool f16;           /* shaderFloat16 */
    bool int64;         /* shaderInt64 */
    bool coop_matrix;   /* VK_KHR_cooperative_matrix */
    bool matrix_units;  /* of these, 16 x 8 x 16 of f16 summed in f32, with operands in lanes as
                           matvec_tile.comp has them; known once the device is open */
    bool memory_budget; /* VK_EXT_memory_budget */
    bool unified;       /* device-local memory is host-visible: uploads write in place */
    bool usable;
    char why_not[256]; /* where not usable: what it lacks */
} vly_gpu_info;

/* All devices; *out is malloc'd and the caller's. `chosen` gets the index in *out that a choice of
 * NULL would take, or -1. VLY_E_NO_DEVICE where there is no Vulkan driver at all: the message says
 * what to install. */
int vly_gpu_list(vly_gpu_info **out, size_t *n, int *chosen, vly_error *err);

/* Which of the n devices of vly_gpu_list `choice` takes, as vly_gpu_create would: *chosen is the
 * index in `infos`, or -1. Error: VLY_E_NO_DEVICE (names what there is). */
int vly_gpu_choose(const vly_gpu_info *infos, size_t n, const char *choice, int *chosen,
                   vly_error *err);

/* Opens a device. `choice`: NULL takes the best (discrete, integrated, virtual, CPU; then the
 * largest memory); a number is an index of vly_gpu_list; else a case-insensitive part of the name.
 * In a build with VLY_VALIDATE the validation layer is required and its errors end the program with
 * a message. Errors: VLY_E_NO_DEVICE (names what there is), VLY_E_DEVICE. */
int vly_gpu_create(const char *choice, vly_gpu **out, vly_error *err);

/* Waits for the queue, writes the pipeline cache ($XDG_CACHE_HOME or ~/.cache, volley/, one file
 * for each device and driver; written aside and renamed) and frees everything. */
void vly_gpu_destroy(vly_gpu *gpu);

const vly_gpu_info *vly_gpu_get_info(const vly_gpu *gpu);

/* Device-local bytes that can be allocated now (budget less use); an estimate. */
uint64_t vly_gpu_available_bytes(const vly_gpu *gpu);

/* The most device-local bytes that buffers ever took together. */
uint64_t vly_gpu_peak_bytes(const vly_gpu *gpu);

/* ---- Memory ---- */

typedef enum {
    VLY_GPU_DEVICE, /* device-local; `mapped` is set only on unified devices */
    VLY_GPU_STEP, /* host-written, device-read: host-visible coherent, device-local if it can be */
    VLY_GPU_STAGING,  /* host-written, copied from: host-visible coherent */
    VLY_GPU_READBACK, /* device-written, host-read: host-visible coherent, cached if it can be */
    VLY_GPU_PAGES /* as VLY_GPU_DEVICE, but not zeroed: memory that is never touched costs nothing
                   */
} vly_gpu_memory;

/* A buffer with its own allocation, zeroed. Usable for storage, transfer, texel views, addresses.
 */
typedef struct {
    void *handle, *allocation; /* the device's own objects */
    uint64_t address;          /* device address, 256-byte aligned */
    uint64_t n_bytes;          /* as asked for, rounded up to whole words */
    void *mapped;              /* host pointer, or NULL */
    bool counted;              /* among what vly_gpu_available_bytes knows to be taken */
} vly_gpu_buffer;

/* Errors: VLY_E_DEVICE_MEMORY (message: label, bytes wanted, bytes available), VLY_E_DEVICE. */
int vly_gpu_buffer_create(vly_gpu *gpu, uint64_t n_bytes, vly_gpu_memory memory, const char *label,
                          vly_gpu_buffer *out, vly_error *err);
/* No submission in flight may use it. Zeroed buffers are left alone. */
void vly_gpu_buffer_destroy(vly_gpu *gpu, vly_gpu_buffer *buffer);

/* Uploads through a ring of staging memory (on unified devices: straight into the buffer). */
int vly_gpu_upload_create(vly_gpu *gpu, uint64_t ring_bytes, vly_gpu_upload **out, vly_error *err);
/* *space: n_bytes of host memory (16-byte aligned; n_bytes <= ring_bytes / 4) for the caller to
 * fill before the next call on `upload`; they are then copied to `dst` at `offset` (multiple of 4).
 * Blocks while the ring is full. */
int vly_gpu_upload_stage(vly_gpu_upload *upload, const vly_gpu_buffer *dst, uint64_t offset,
                         uint64_t n_bytes, void **space, vly_error *err);
/* Waits until everything staged has arrived. */
int vly_gpu_upload_finish(vly_gpu_upload *upload, vly_error *err);
void vly_gpu_upload_destroy(vly_gpu_upload *upload);

/* ---- Kernels ---- */

/* One for each row of shaders/shaders.def. */
typedef enum {
#define VLY_SHADER(name, file, defines) VLY_SHADER_##name,
#include "shaders/shaders.def"
#undef VLY_SHADER
    VLY_N_SHADERS
} vly_shader_id;

#define VLY_GPU_MAX_CONSTANTS  16
#define VLY_GPU_MAX_PUSH_BYTES 128

/* The pipeline of a shader with specialisation constants 0..n_constants-1 (constant 0 is always the
 * workgroup's width, local_size_x_id = 0) and, where `subgroup_size` is not 0 and the device can,
 * that required subgroup size with full subgroups. The same arguments give the same kernel; the gpu
 * owns it, and threads may ask at a time. Every pipeline has 128 bytes of push constants and set 0
 * of vly_gpu_views. */
int vly_gpu_kernel_get(vly_gpu *gpu, vly_shader_id shader, const uint32_t *constants,
                       uint32_t n_constants, uint32_t subgroup_size, vly_gpu_kernel **out,
                       vly_error *err);

/* Set 0: four uniform texel buffer views.
 *   binding 0: weights as rgba32ui    binding 1: weights as r32ui
 *   binding 2: activations as rgba32f binding 3: kv as rgba32ui
 * A NULL buffer leaves its bindings as they are (they must not be read). The buffers must outlive
 * the views, and be at most max_texel_elements * 16 bytes (binding 1: * 4; a larger weights buffer
 * gets binding 1 over its first part only). */
#define VLY_GPU_N_VIEWS 4
int vly_gpu_views_create(vly_gpu *gpu, const vly_gpu_buffer *weights,
                         const vly_gpu_buffer *activations, const vly_gpu_buffer *kv,
                         vly_gpu_views **out, vly_error *err);
void vly_gpu_views_destroy(vly_gpu *gpu, vly_gpu_views *views);

/* ---- Recorded commands ---- */

/* Commands are recorded once and submitted any number of times, also several times in one
 * submission. They end with a barrier, so that what they wrote is visible to all that is submitted
 * behind them and to the host; what the host wrote before a submission is visible to it. Those that
 * mark times are not submitted again before they are complete. `label` names the step in errors
 * ("verify pass of 5 tokens of stories15M"); it is copied. */
int vly_gpu_commands_create(vly_gpu *gpu, const char *label, vly_gpu_commands **out,
                            vly_error *err);
void vly_gpu_cmd_dispatch(vly_gpu_commands *commands, const vly_gpu_kernel *kernel,
                          const vly_gpu_views *views, const void *push, uint32_t push_bytes,
                          uint32_t x, uint32_t y, uint32_t z);
/* All writes before it are visible to all reads after it (compute and transfer). */
void vly_gpu_cmd_barrier(vly_gpu_commands *commands);
void vly_gpu_cmd_copy(vly_gpu_commands *commands, const vly_gpu_buffer *src, uint64_t src_offset,
                      const vly_gpu_buffer *dst, uint64_t dst_offset, uint64_t n_bytes);
void vly_gpu_cmd_fill(vly_gpu_commands *commands, const vly_gpu_buffer *dst, uint64_t offset,
                      uint64_t n_bytes, uint32_t value);
/* Marks a time; `slot` < VLY_GPU_MAX_TIMESTAMPS of these commands. */
#define VLY_GPU_MAX_TIMESTAMPS 512
void vly_gpu_cmd_timestamp(vly_gpu_commands *commands, uint32_t slot);
/* Recorded commands that mark the time in slot 0, and do nothing else. */
int vly_gpu_mark_create(vly_gpu *gpu, vly_gpu_commands **out, vly_error *err);
/* Ends recording. Errors of any call since create are reported here. */
int vly_gpu_commands_end(vly_gpu_commands *commands, vly_error *err);
void vly_gpu_commands_destroy(vly_gpu_commands *commands);

/* Device times of the marked slots 0..n-1 in the last completed submission, in nanoseconds on the
 * device's own clock: times of different commands can be compared. */
int vly_gpu_commands_times(const vly_gpu_commands *commands, uint32_t n, uint64_t *ns,
                           vly_error *err);

/* ---- Submission ---- */

/* Called on the loop's thread when a submission is complete: rc is 0, or VLY_E_DEVICE_LOST or
 * VLY_E_DEVICE with *err naming the step. */
typedef void (*vly_gpu_done)(void *arg, int rc, const vly_error *err);

/* Submits `n` recorded commands (1 to 256, in order, as one batch) and returns at once. *ticket
 * (may be NULL) is for vly_gpu_wait. `done` (may be NULL) needs an attached loop. Does not
 * allocate. 256 submissions can be outstanding: a further one waits for the oldest, or is an error
 * where that one's completion is for the loop to deliver. */
int vly_gpu_submit(vly_gpu *gpu, vly_gpu_commands *const *commands, uint32_t n, vly_gpu_done done,
                   void *arg, uint64_t *ticket, vly_error *err);

/* Blocks until the submission is complete. After a device loss every call fails with
 * VLY_E_DEVICE_LOST. */
int vly_gpu_wait(vly_gpu *gpu, uint64_t ticket, vly_error *err);

/* Starts / ends delivery of completions to `loop`: a waiter thread on the timeline semaphore and
 * uv_async_send. The handle keeps the loop alive only while submissions with a `done` are
 * outstanding. Detaching waits for these and delivers them; the loop must run once more before it
 * is closed. Not to be called from a `done`. vly_gpu_destroy detaches. */
int vly_gpu_loop_attach(vly_gpu *gpu, struct uv_loop_s *loop, vly_error *err);
void vly_gpu_loop_detach(vly_gpu *gpu);

#endif
