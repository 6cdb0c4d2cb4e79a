/* What the files of src/gpu share. */
#ifndef VLY_GPU_INTERNAL_H
#define VLY_GPU_INTERNAL_H

#include "base/cache_file.h"
#include "gpu/gpu.h"

#include <pthread.h>
#include <uv.h>
#include <vulkan/vulkan.h>

/* KHR_cooperative_matrix is younger than some of the headers that Volley builds with. */
#ifndef VK_KHR_cooperative_matrix
#define VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME "VK_KHR_cooperative_matrix"
#define VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR                          \
    ((VkStructureType)1000506000)
#define VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR ((VkStructureType)1000506001)
#define VK_COMPONENT_TYPE_FLOAT16_KHR                       0
#define VK_COMPONENT_TYPE_FLOAT32_KHR                       1
#define VK_SCOPE_SUBGROUP_KHR                               3
typedef struct {
    VkStructureType sType;
    void *pNext;
    VkBool32 cooperativeMatrix, cooperativeMatrixRobustBufferAccess;
} VkPhysicalDeviceCooperativeMatrixFeaturesKHR;
typedef struct {
    VkStructureType sType;
    void *pNext;
    uint32_t MSize, NSize, KSize;
    int32_t AType, BType, CType, ResultType;
    VkBool32 saturatingAccumulation;
    int32_t scope;
} VkCooperativeMatrixPropertiesKHR;
typedef VkResult(VKAPI_PTR *PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)(
    VkPhysicalDevice, uint32_t *, VkCooperativeMatrixPropertiesKHR *);
#endif

/* vly_gpu_buffer keeps Vulkan's 64-bit handles in pointers. */
_Static_assert(sizeof(VkBuffer) == sizeof(void *), "Volley needs 64-bit pointers");

#define LABEL_BYTES 128 /* longest label, cut */
#define MAX_IN_FLIGHT                                                                              \
    256               /* submissions that are running or whose completion is not yet delivered */
#define MAX_BATCH 256 /* recorded commands in one submission */
#define N_BUCKETS 256 /* of the table of kernels */

/* What a device offers, beside what it tells in vly_gpu_info; device.c enables what is set. */
typedef struct {
    vly_gpu_info info;
    uint32_t queue_family, timestamp_bits;
    uint32_t max_workgroup_width, max_groups[3], max_workgroup_subgroups;
    bool has_int_dot; /* the feature, accelerated or not */
    bool int_dot_extension, subgroup_size_extension;
    VkPhysicalDeviceMemoryProperties memory;
    uint32_t device_heap; /* index of the largest device-local heap */
} gpu_caps;

/* A submission that runs or waits for its completion to be delivered. */
typedef struct {
    uint64_t value; /* of the timeline once complete */
    vly_gpu_done done;
    void *arg;
    char label[LABEL_BYTES];
} gpu_flight;

/* A compiled shader. */
typedef struct {
    const char *name;
    const uint32_t *words;
    size_t n_bytes;
} gpu_spirv;

struct vly_gpu_kernel {
    vly_gpu_kernel *next; /* in its bucket */
    uint64_t hash;
    const uint32_t *words; /* which shader */
    uint32_t constants[VLY_GPU_MAX_CONSTANTS], n_constants, subgroup_size;
    VkPipeline pipeline;
};

struct vly_gpu_views {
    VkDescriptorPool pool;
    VkDescriptorSet set;
    VkBufferView views[VLY_GPU_N_VIEWS];
};

struct vly_gpu_commands {
    vly_gpu *gpu;
    VkCommandPool pool; /* its own */
    VkCommandBuffer buffer;
    VkQueryPool queries; /* made by the first timestamp */
    uint32_t n_queries;  /* from slot 0 on, those that are marked among them */
    bool writes;         /* memory */
    const vly_gpu_kernel *kernel;
    const vly_gpu_views *views; /* bound last */
    bool ended;
    vly_error error; /* the first of recording; code 0: none */
    uint8_t marked[VLY_GPU_MAX_TIMESTAMPS / 8];
    char label[LABEL_BYTES];
};

struct vly_gpu {
    VkInstance instance;
    VkDebugUtilsMessengerEXT messenger; /* in VLY_VALIDATE builds */
    VkPhysicalDevice physical;
    VkDevice device;
    VkQueue queue;
    gpu_caps caps;
    uint64_t device_heap_used; /* bytes of our own buffers in caps.device_heap */
    uint64_t device_heap_peak; /* the most that was ever used */

    VkDescriptorSetLayout set_layout;
    VkPipelineLayout pipeline_layout;
    VkPipelineCache pipeline_cache;
    char cache_path[VLY_CACHE_PATH_BYTES]; /* empty: nowhere to keep it */
    pthread_mutex_t kernels_mutex;
    pthread_cond_t kernel_made;
    bool cache_dirty; /* this and the next under that mutex */
    vly_gpu_kernel *buckets[N_BUCKETS];

    vly_gpu_commands *to_host; /* behind every submission: the host sees what it wrote */
    VkSemaphore timeline;
    uint64_t submitted; /* value of the last submission */

    uv_async_t *loop;  /* NULL: no loop is attached; freed when the loop has closed it */
    uv_idle_t *poller; /* with the loop, where waking up takes long against a step; else NULL */
    uint64_t poll_until_ns;
    pthread_t waiter;

    /* Shared with the waiter, under the mutex (n_undelivered and submitted change on the loop's
     * thread only, which reads them without it). */
    pthread_mutex_t mutex;
    pthread_cond_t wake;               /* a flight was added, or stop or failed set */
    gpu_flight flights[MAX_IN_FLIGHT]; /* in order: [first .. first + n) modulo MAX_IN_FLIGHT */
    uint32_t first_flight, n_flights, n_undelivered;
    uint64_t completed; /* known to be complete */
    bool stop;
    int failed; /* 0, or the code with which every later call fails, and why */
    vly_error failure;
};

/* Fails with the code that `result` of the call `what` stands for. */
int gpu_fail_vk(vly_error *err, VkResult result, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
#define MIB(n_bytes) ((double)(n_bytes) / 1048576.0)

/* instance.c: the instance, with the validation layer in VLY_VALIDATE builds, and its devices
 * (malloc'd; at least one). */
int gpu_instance_create(VkInstance *out, VkDebugUtilsMessengerEXT *messenger, vly_error *err);
void gpu_instance_destroy(VkInstance instance, VkDebugUtilsMessengerEXT messenger);
int gpu_instance_devices(VkInstance instance, VkPhysicalDevice **out, uint32_t *n, vly_error *err);

/* caps.c */
int gpu_caps_query(VkPhysicalDevice physical, uint32_t index, gpu_caps *out, vly_error *err);
/* Bytes that can still be allocated in the device heap, given how many of ours are in it. */
uint64_t gpu_caps_available(VkPhysicalDevice physical, const gpu_caps *caps, uint64_t used);

/* pipeline_cache.c: both leave things as they are where the file cannot be had. */
int gpu_pipeline_cache_load(vly_gpu *gpu, vly_error *err);
void gpu_pipeline_cache_save(vly_gpu *gpu);

/* kernel.c */
int gpu_layouts_create(vly_gpu *gpu, vly_error *err);
void gpu_kernels_destroy(vly_gpu *gpu);
/* vly_gpu_kernel_get for any SPIR-V; `spirv->words` identifies it and outlives the gpu. */
int gpu_kernel_get(vly_gpu *gpu, const gpu_spirv *spirv, const uint32_t *constants,
                   uint32_t n_constants, uint32_t subgroup_size, vly_gpu_kernel **out,
                   vly_error *err);

/* command.c */
int gpu_to_host_create(vly_gpu *gpu, vly_error *err);

/* submit.c */
int gpu_submit_init(vly_gpu *gpu, vly_error *err);
void gpu_submit_deinit(vly_gpu *gpu);
/* 0, or the failure that the device has already had. */
int gpu_check(vly_gpu *gpu, vly_error *err);
/* After a wait or a submission failed with `result`: from now on every call fails as this one does.
 * The message names the step that the device was in, or `label` where that is not known. */
int gpu_break(vly_gpu *gpu, VkResult result, const char *label, vly_error *err);
/* Lets the loop look for completions for a while instead of sleeping (loop.c). */
void gpu_loop_poll(vly_gpu *gpu);

/* Waits until the timeline has reached `value`, in slices, so that a failure seen elsewhere ends
 * it. */
int gpu_wait_slices(vly_gpu *gpu, uint64_t value, vly_error *err);
/* The i-th oldest of the n_flights, and taking off the oldest. The mutex is held. */
gpu_flight *gpu_flight_at(vly_gpu *gpu, uint32_t i);
void gpu_flight_pop(vly_gpu *gpu);
/* Submits and waits. */
int gpu_run(vly_gpu *gpu, vly_gpu_commands *commands, vly_error *err);

/* upload.c: as vly_gpu_upload_create, but goes through the ring also where the device is unified,
 * so that the ring is tested on machines that have only such a device. */
int gpu_upload_create(vly_gpu *gpu, uint64_t ring_bytes, bool always_ring, vly_gpu_upload **out,
                      vly_error *err);

/* Finds out whether the matrix units can be used, and sets vly_gpu_info.matrix_units. */
int gpu_matrix_units_find(vly_gpu *gpu, vly_error *err);

#endif
