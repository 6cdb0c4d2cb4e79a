/* For LD_PRELOAD, between a program and the Vulkan loader: a processor says that it is a GPU, so
 * that the forms of kernels and the paths that GPUs take are there where there is none. */
#include <dlfcn.h>
#include <stdint.h>

/* The functions as the loader has them; handles are pointers. Of the structures only the beginnings
 * are of interest. */
typedef struct {
    uint32_t api, driver, vendor, device, type;
} properties;
typedef struct {
    uint32_t structure;
    void *next;
    properties properties;
} properties2;

void vkGetPhysicalDeviceProperties(void *physical, properties *out);
void vkGetPhysicalDeviceProperties2(void *physical, properties2 *out);

static void pose(properties *of)
{
    enum { VIRTUAL_GPU = 3, CPU = 4 };
    if (of->type == CPU) of->type = VIRTUAL_GPU;
}

void vkGetPhysicalDeviceProperties(void *physical, properties *out)
{
    static void (*real)(void *, properties *);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "vkGetPhysicalDeviceProperties");
    real(physical, out);
    pose(out);
}

void vkGetPhysicalDeviceProperties2(void *physical, properties2 *out)
{
    static void (*real)(void *, properties2 *);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "vkGetPhysicalDeviceProperties2");
    real(physical, out);
    pose(&out->properties);
}
