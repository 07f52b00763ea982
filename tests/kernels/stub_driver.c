// A CUDA driver that runs nothing: it checks what the real one checks, and writes down every call for the tests.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_VALUE = 1, INVALID_CONTEXT = 201, LIBRARIES = 1 << 16, FREE_SHARED_BYTES = 48 * 1024 };

typedef struct {
    char name[64];
    int library, largest_shared, carveout;
} Kernel;

static char text[1 << 20];
static size_t used;
static _Thread_local void* context;
static char failing[64];
static int failing_status;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int libraries;

#define WRITE(...)                                                                    \
    do {                                                                              \
        pthread_mutex_lock(&lock);                                                    \
        used += (size_t)snprintf(text + used, sizeof text - used, __VA_ARGS__);       \
        pthread_mutex_unlock(&lock);                                                  \
    } while (0)
#define BEGIN                                                                         \
    do {                                                                              \
        if (strcmp(failing, __func__) == 0) {                                         \
            WRITE("%s failed\n", __func__);                                           \
            return failing_status;                                                    \
        }                                                                             \
    } while (0)

// For the tests.
const char* stub_text(void) { return text; }
void stub_clear(void) { used = 0, text[0] = 0; }
void stub_set_context(void* value) { context = value; }
void* stub_context(void) { return context; }
void stub_fail(const char* function, int status) {
    snprintf(failing, sizeof failing, "%s", function);
    failing_status = status;
}

int cuGetErrorName(int status, const char** name) {
    static _Thread_local char buffer[32];
    snprintf(buffer, sizeof buffer, "CUDA_ERROR_STUB_%d", status);
    *name = buffer;
    return SUCCESS;
}

int cuCtxGetCurrent(void** value) {
    BEGIN;
    *value = context;
    return SUCCESS;
}

int cuLibraryLoadData(void** library, const void* code, void* jit, void* jit_values, unsigned jit_count, void* options,
                      void* values, unsigned count) {
    BEGIN;
    if (!context) return INVALID_CONTEXT;
    if (jit || jit_values || jit_count || options || values || count) return INVALID_VALUE;
    *library = (void*)(size_t)(LIBRARIES + ++libraries);
    WRITE("load context=%p library=%d code=%.4s\n", context, libraries, (const char*)code + 1);
    return SUCCESS;
}

int cuLibraryGetKernel(void** kernel, void* library, const char* name) {
    BEGIN;
    Kernel* made = calloc(1, sizeof *made);
    snprintf(made->name, sizeof made->name, "%s", name);
    made->library = (int)((size_t)library - LIBRARIES);
    made->largest_shared = FREE_SHARED_BYTES;
    *kernel = made;
    return SUCCESS;
}

int cuKernelGetFunction(void** function, void* kernel) {
    BEGIN;
    if (!context) return INVALID_CONTEXT;
    *function = kernel;
    return SUCCESS;
}

int cuFuncSetAttribute(void* function, int attribute, int value) {
    BEGIN;
    if (attribute != 8 && attribute != 9) return INVALID_VALUE;
    *(attribute == 8 ? &((Kernel*)function)->largest_shared : &((Kernel*)function)->carveout) = value;
    return SUCCESS;
}

int cuLaunchKernel(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                   unsigned block_y, unsigned block_z, unsigned shared_bytes, void* stream, void** parameters,
                   void** extra) {
    BEGIN;
    Kernel* kernel = function;
    if (!context) return INVALID_CONTEXT;
    if ((int)shared_bytes > kernel->largest_shared || block_x * block_y * block_z > 1024 || grid_x == 0)
        return INVALID_VALUE;
    if (parameters || extra[0] != (void*)1 || extra[2] != (void*)2 || extra[4]) return INVALID_VALUE;
    const unsigned char* bytes = extra[1];
    const size_t size = *(size_t*)extra[3];
    char hex[512] = {0};
    for (size_t i = 0; i < size && i < 250; ++i) {
        hex[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
    WRITE("launch context=%p library=%d kernel=%s carveout=%d grid=%u,%u,%u block=%u,%u,%u shared=%u stream=%p "
          "arguments=%s\n",
          context, kernel->library, kernel->name, kernel->carveout, grid_x, grid_y, grid_z, block_x, block_y, block_z,
          shared_bytes, stream, hex);
    return SUCCESS;
}
