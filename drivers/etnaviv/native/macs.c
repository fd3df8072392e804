/* The multiply-accumulate units of the simulated NN cores, and the step from sums to bytes.
 *
 * Ref: docs/hardware/etnaviv.md section 8.2
 *
 * Plain buffers in and out.  Sums are of 32 bits and wrap as the hardware's do, so the order of
 * additions does not matter.  Every address that is used is checked against its buffer before.
 *
 * A "grid" is how outputs lie in the image: output (y, x) sees what lies y * pitch + x behind the
 * place of each tap, so that all the pixels that a tap sees follow one another.  What lies between
 * the end of a row and the next one (pitch > columns) is computed and dropped.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#include "rescale.h"

#define CHUNK 256  /* outputs at a time of a kernel that looks at one plane; some LANES */
/* Numbers of 16 bits that stay in the second level cache together. */
#define PATCHES (1 << 17)
#define KERNELS (1 << 16)

struct grid {
    Py_ssize_t rows, columns, pitch, out_pitch;
};

struct job {
    const uint8_t *image, *weights;
    const int16_t *factors;
    const int32_t *offsets;
    const int64_t *planes, *places;
    const int32_t *bias;
    uint8_t *out;
    Py_ssize_t depth, pixels, first, end, from, to;
    int zero;
    struct grid grid;
    struct scale scale;
    int16_t *patches, *kernels;
};

/* Stores outputs from (y, x) of the grid on, and drops what lies between rows. */
INLINE void
store(uint8_t *to, const uint8_t *bytes, Py_ssize_t y, Py_ssize_t x, Py_ssize_t count,
      const struct grid *g)
{
    if (count == LANES && x + LANES <= g->columns) {
        memcpy(to + y * g->out_pitch + x, bytes, LANES);
        return;
    }
    while (count > 0) {
        Py_ssize_t run = g->pitch - x < count ? g->pitch - x : count;
        Py_ssize_t kept = x + run < g->columns ? run : g->columns - x;
        if (kept > 0)
            memcpy(to + y * g->out_pitch + x, bytes, (size_t)kept);
        bytes += run;
        count -= run;
        x = 0;
        y++;
    }
}

INLINE void
interleave(const uint8_t *restrict a, const uint8_t *restrict b, int16_t *restrict to, int count)
{
    for (int p = 0; p < count; p++) {
        to[2 * p] = a[p];
        to[2 * p + 1] = b[p];
    }
}

/* What LANES outputs see, as a panel: [pair of weights][output][weight of the pair]. */
INLINE void
gather(const struct job *j, Py_ssize_t pixel, int16_t *patch)
{
    const Py_ssize_t left = j->pixels - pixel;
    const int count = left < LANES ? (int)left : LANES;
    for (Py_ssize_t k = 0; k < j->depth; k += 2, patch += 2 * LANES) {
        const uint8_t *a = j->image + j->offsets[k] + pixel;
        const uint8_t *b = j->image + j->offsets[k + 1 < j->depth ? k + 1 : k] + pixel;
        if (count == LANES) {
            interleave(a, b, patch, LANES);
        } else {
            memset(patch, 0, 2 * LANES * sizeof *patch);
            interleave(a, b, patch, count);
        }
    }
}

/* Numbers of 16 bits that a kernel takes: its weights, an even number of them. */
static inline Py_ssize_t
kernel_size(const struct job *j)
{
    return (j->depth + 1) / 2 * 2;
}

/* Kernels `from` to `to` for the pixels of one patch. The product of native/product.h is called the
 * other way round: kernels take the place of its pixels, and the patch that of its panel. */
INLINE void
run_patch(const struct job *j, Py_ssize_t at, const int16_t *patch, Py_ssize_t from, Py_ssize_t to,
          Product product, rescaler bytes_of)
{
    const Py_ssize_t size = kernel_size(j), pixel = at * LANES, left = j->pixels - pixel;
    const Py_ssize_t count = left < LANES ? left : LANES;
    const Py_ssize_t y = pixel / j->grid.pitch, x = pixel % j->grid.pitch;
    const ptrdiff_t start = 0;
    const Taps whole = {&start, 1, size};
    const int16_t *kernels[TILE], *next = j->kernels;
    int32_t sums[TILE][LANES];
    uint8_t bytes[LANES];
    for (Py_ssize_t first = from; first < to; first += TILE) {
        const int some = to - first < TILE ? (int)(to - first) : TILE;
        for (int k = 0; k < some; k++, next += size)
            kernels[k] = next;
        product(kernels, some, &whole, patch, sums);
        for (int k = 0; k < some; k++) {
            if (j->places[first + k] < 0)
                continue;
            bytes_of(sums[k], j->bias[first + k], bytes, &j->scale);
            store(j->out + j->places[first + k], bytes, y, x, count, &j->grid);
        }
    }
}

/* How many things of a size fit into the cache together, at least one. */
static Py_ssize_t
fit(Py_ssize_t room, Py_ssize_t size)
{
    return room / size < 1 ? 1 : room / size;
}

/* How many kernels fit into the cache together, in whole tiles. */
static Py_ssize_t
fit_kernels(const struct job *j)
{
    return fit(KERNELS, kernel_size(j) * TILE) * TILE;
}

/* Works on groups of patches and of kernels that fit into the cache: each patch with all kernels of
 * the group. */
INLINE void
run_dense(const struct job *j, Product product, rescaler bytes_of)
{
    const Py_ssize_t kernel = kernel_size(j), size = kernel * LANES;
    const Py_ssize_t patches = fit(PATCHES, size), kernels = fit_kernels(j);
    for (Py_ssize_t start = j->first; start < j->end; start += patches) {
        const Py_ssize_t stop = start + patches < j->end ? start + patches : j->end;
        for (Py_ssize_t at = start; at < stop; at++)
            gather(j, at * LANES, j->patches + (at - start) * size);
        for (Py_ssize_t n = j->from; n < j->to; n += kernels) {
            const Py_ssize_t end = n + kernels < j->to ? n + kernels : j->to;
            const uint8_t *raw = j->weights + n * kernel;
            for (Py_ssize_t i = 0; i < (end - n) * kernel; i++)
                j->kernels[i] = (int16_t)(raw[i] - j->zero);
            for (Py_ssize_t at = start; at < stop; at++)
                run_patch(j, at, j->patches + (at - start) * size, n, end, product, bytes_of);
        }
    }
}

/* The sums of `count` outputs of a kernel whose taps see what lies at the offsets from `seen`. */
INLINE void
taps_plain(const struct job *j, const uint8_t *seen, const int16_t *factors, int count,
           int32_t *sums)
{
    for (int p = 0; p < count; p++)
        sums[p] = 0;
    for (Py_ssize_t k = 0; k < j->depth; k++) {
        const uint8_t *from = seen + j->offsets[k];
        const int32_t factor = factors[k];
        for (int p = 0; p < count; p++)
            sums[p] = (int32_t)((uint32_t)sums[p] + (uint32_t)(factor * from[p]));
    }
}

#ifdef AVX2
AVX2 INLINE void
taps_avx2(const struct job *j, const uint8_t *seen, const int16_t *factors, int count,
          int32_t *sums)
{
    if (count < LANES) {
        taps_plain(j, seen, factors, count, sums);
        return;
    }
    for (int at = 0; at < count; at += LANES) {
        const int p = at + LANES <= count ? at : count - LANES; /* computes some of the last ones twice */
        __m256i low = _mm256_setzero_si256(), high = low;
        for (Py_ssize_t k = 0; k < j->depth; k += 2) {
            const int two = k + 1 < j->depth;
            const uint8_t *from = seen + p;
            const __m128i a = _mm_loadu_si128((const __m128i *)(from + j->offsets[k]));
            const __m128i b = _mm_loadu_si128((const __m128i *)(from + j->offsets[k + two]));
            const __m256i pair = _mm256_set1_epi32(
                (uint16_t)factors[k] | (two ? (uint32_t)(uint16_t)factors[k + 1] << 16 : 0));
            const __m256i near = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b));
            const __m256i far = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(a, b));
            low = _mm256_add_epi32(low, _mm256_madd_epi16(near, pair));
            high = _mm256_add_epi32(high, _mm256_madd_epi16(far, pair));
        }
        _mm256_storeu_si256((__m256i *)(sums + p), low);
        _mm256_storeu_si256((__m256i *)(sums + p + LANES / 2), high);
    }
}
#endif

typedef void (*tapper)(const struct job *, const uint8_t *, const int16_t *, int, int32_t *);

INLINE void
run_single(const struct job *j, tapper sums_of, rescaler bytes_of)
{
    int32_t sums[CHUNK] = {0};
    uint8_t bytes[CHUNK];
    for (Py_ssize_t n = j->from; n < j->to; n++) {
        if (j->places[n] < 0)
            continue;
        for (Py_ssize_t pixel = 0; pixel < j->pixels; pixel += CHUNK) {
            const Py_ssize_t left = j->pixels - pixel;
            const int count = left < CHUNK ? (int)left : CHUNK;
            sums_of(j, j->image + j->planes[n] + pixel, j->factors + n * j->depth, count, sums);
            for (int p = 0; p < count; p += LANES)
                bytes_of(sums + p, j->bias[n], bytes + p, &j->scale);
            store(j->out + j->places[n], bytes, pixel / j->grid.pitch, pixel % j->grid.pitch,
                  count, &j->grid);
        }
    }
}

static void dense_plain(const struct job *j) { run_dense(j, product_plain, bytes_plain); }
static void single_plain(const struct job *j) { run_single(j, taps_plain, bytes_plain); }
#ifdef AVX2
AVX2 static void dense_avx2(const struct job *j) { run_dense(j, product_avx2, bytes_avx2); }
AVX2 static void single_avx2(const struct job *j) { run_single(j, taps_avx2, bytes_avx2); }
#endif

#ifdef AVX2
#define CHOOSE(name, plain) (!(plain) && HAVE_AVX2 ? name##_avx2 : name##_plain)
#else
#define CHOOSE(name, plain) ((void)(plain), name##_plain)
#endif

/* Whether outputs of kernels `from` to `to` stay within `room` bytes. */
static int
set_grid(struct job *j, Py_ssize_t from, Py_ssize_t to, Py_ssize_t room)
{
    const struct grid *g = &j->grid;
    const Py_ssize_t most = (Py_ssize_t)1 << 24; /* products below fit 64 bits */
    if (g->rows < 1 || g->columns < 1 || g->pitch < g->columns || g->out_pitch < g->columns ||
        g->rows > most || g->pitch > most || g->out_pitch > most)
        return 0;
    j->pixels = (g->rows - 1) * g->pitch + g->columns;
    const Py_ssize_t end = (g->rows - 1) * g->out_pitch + g->columns;
    if (j->pixels > INT32_MAX)
        return 0;
    for (Py_ssize_t n = from; n < to; n++)
        if (j->places[n] > room - end)
            return 0;
    if (g->pitch == g->columns && g->out_pitch == g->columns) /* one long row */
        j->grid = (struct grid){1, j->pixels, j->pixels, j->pixels};
    return 1;
}

/* Whether all that the taps see, from the furthest plane on, lies within `room` bytes. */
static int
offsets_fit(const struct job *j, Py_ssize_t room)
{
    for (Py_ssize_t k = 0; k < j->depth; k++)
        if (j->offsets[k] < 0 || j->offsets[k] > room - j->pixels)
            return 0;
    return j->depth > 0;
}

#define BUFFERS 7

static PyObject *
finish(Py_buffer *held, const char *problem)
{
    for (int i = 0; i < BUFFERS; i++)
        if (held[i].obj)
            PyBuffer_Release(&held[i]);
    if (problem) {
        PyErr_SetString(PyExc_ValueError, problem);
        return NULL;
    }
    Py_RETURN_NONE;
}

#define GRID(j) &(j).grid.rows, &(j).grid.columns, &(j).grid.pitch, &(j).grid.out_pitch
#define SCALE(j) \
    &(j).scale.multiplier, &(j).scale.shift, &(j).scale.relu, &(j).scale.zero, &(j).scale.small

static PyObject *
dense(PyObject *self, PyObject *args)
{
    (void)self;
    Py_buffer b[BUFFERS] = {{0}}; /* image, offsets, weights, bias, places, out */
    struct job j = {0};
    int plain = 0;
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*w*i(nnnn)(Lipip)(nn)(nn)|p", &b[0], &b[1], &b[2], &b[3],
                          &b[4], &b[5], &j.zero, GRID(j), SCALE(j), &j.first, &j.end, &j.from,
                          &j.to, &plain))
        return NULL;
    j.image = b[0].buf, j.offsets = b[1].buf, j.weights = b[2].buf, j.bias = b[3].buf;
    j.places = b[4].buf, j.out = b[5].buf;
    j.depth = b[1].len / 4;
    const Py_ssize_t size = kernel_size(&j), kernels = b[4].len / 8;
    if (j.from < 0 || j.from > j.to || j.to > kernels || b[3].len < 4 * kernels ||
        b[2].len < kernels * size || !set_scale(&j.scale) ||
        !set_grid(&j, j.from, j.to, b[5].len) || !offsets_fit(&j, b[0].len) ||
        j.first < 0 || j.end > (j.pixels + LANES - 1) / LANES || j.zero < 0 || j.zero > 255)
        return finish(b, "sizes of the buffers disagree");
    const Py_ssize_t patch = size * LANES;
    j.patches = PyMem_RawMalloc((size_t)(fit(PATCHES, patch) * patch) * sizeof *j.patches);
    j.kernels = PyMem_RawMalloc((size_t)(fit_kernels(&j) * size) * sizeof *j.kernels);
    if (j.patches && j.kernels) {
        Py_BEGIN_ALLOW_THREADS
        CHOOSE(dense, plain)(&j);
        Py_END_ALLOW_THREADS
    }
    const int failed = !j.patches || !j.kernels;
    PyMem_RawFree(j.patches);
    PyMem_RawFree(j.kernels);
    return finish(b, failed ? "no memory for the patches" : NULL);
}

static PyObject *
single(PyObject *self, PyObject *args)
{
    (void)self;
    Py_buffer b[BUFFERS] = {{0}}; /* image, planes, offsets, factors, bias, places, out */
    struct job j = {0};
    int plain = 0;
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*y*w*(nnnn)(Lipip)(nn)|p", &b[0], &b[1], &b[2], &b[3],
                          &b[4], &b[5], &b[6], GRID(j), SCALE(j), &j.from, &j.to, &plain))
        return NULL;
    j.image = b[0].buf, j.planes = b[1].buf, j.offsets = b[2].buf, j.factors = b[3].buf;
    j.bias = b[4].buf, j.places = b[5].buf, j.out = b[6].buf;
    j.depth = b[2].len / 4;
    const Py_ssize_t kernels = b[5].len / 8;
    int fits = j.from >= 0 && j.from <= j.to && j.to <= kernels && b[1].len >= 8 * kernels &&
               b[3].len >= 2 * kernels * j.depth && b[4].len >= 4 * kernels &&
               set_scale(&j.scale) && set_grid(&j, j.from, j.to, b[6].len);
    int64_t furthest = 0;
    for (Py_ssize_t n = j.from; fits && n < j.to; n++) {
        fits = j.planes[n] >= 0;
        furthest = j.planes[n] > furthest ? j.planes[n] : furthest;
    }
    if (!fits || furthest > b[0].len || !offsets_fit(&j, b[0].len - (Py_ssize_t)furthest))
        return finish(b, "sizes of the buffers disagree");
    Py_BEGIN_ALLOW_THREADS
    CHOOSE(single, plain)(&j);
    Py_END_ALLOW_THREADS
    return finish(b, NULL);
}

static PyMethodDef methods[] = {
    {"dense", dense, METH_VARARGS, "Kernels that look at many planes."},
    {"single", single, METH_VARARGS, "Kernels that look at one plane each."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_macs", "Multiply-accumulate units of the simulated NPU.", -1, methods,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__macs(void)
{
    return PyModule_Create(&module);
}
