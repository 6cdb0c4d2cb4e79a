/* For LD_PRELOAD, between a program and the Vulkan loader: while the file $HOLD_COMPILING is there
 * the driver does not come to the end of compiling anything in a thread besides the program's first
 * one, as if it took its time. */
#include <dlfcn.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

/* The function as the loader has it. Handles are pointers, or as large. */
int vkCreateComputePipelines(void *device, uint64_t cache, uint32_t n, const void *infos,
                             const void *callbacks, uint64_t *out);

int vkCreateComputePipelines(void *device, uint64_t cache, uint32_t n, const void *infos,
                             const void *callbacks, uint64_t *out)
{
    static int (*real)(void *, uint64_t, uint32_t, const void *, const void *, uint64_t *);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "vkCreateComputePipelines");
    const char *path = getenv("HOLD_COMPILING");
    while (path && gettid() != getpid() && access(path, F_OK) == 0) poll(NULL, 0, 10);
    return real(device, cache, n, infos, callbacks, out);
}
