/* Convolutions and depthwise convolutions over blocks of output rows, for any layout of the image.
 *
 * The caller passes a function that writes a padded row of the image (Fill), and one that takes the
 * sums of some pixels (Finish); both are inlined into the loops. A block is so small that its part
 * of the image stays in the second level cache.
 */
#ifndef TEFLON_WINDOWS_H
#define TEFLON_WINDOWS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "product.h"

/* Only with a C library that can choose a clone when it loads the module. */
#if defined(__x86_64__) && defined(__GNUC__) && defined(__GLIBC__) && !defined(__clang__)
#define FAST __attribute__((target_clones("avx2", "default")))
#else
#define FAST
#endif

#define NEAR (1 << 18)    /* bytes of the image in a block */
#define MOST (1 << 24) /* the largest size, so that products of sizes fit into 64 bits */

typedef struct {
    int kernel_h, kernel_w, stride_y, stride_x, dilation_y, dilation_x, pad_top, pad_left;
    Py_ssize_t first, rows, width; /* of the output: first row, number of rows, columns */
} Window;

/* Raise ValueError unless sizes are positive and at most MOST. */
static int
check_window(const Window *w)
{
    const Py_ssize_t positive[] = {w->kernel_h,   w->kernel_w,   w->stride_y, w->stride_x,
                                   w->dilation_y, w->dilation_x, w->width};
    const Py_ssize_t natural[] = {w->pad_top, w->pad_left, w->first, w->rows};
    int fine = 1;
    for (size_t i = 0; i < sizeof positive / sizeof *positive; i++)
        fine = fine && positive[i] >= 1 && positive[i] <= MOST;
    for (size_t i = 0; i < sizeof natural / sizeof *natural; i++)
        fine = fine && natural[i] >= 0 && natural[i] <= MOST;
    if (fine)
        return 0;
    PyErr_Format(PyExc_ValueError, "window: a size is not positive or above %d", MOST);
    return -1;
}

/* The number of columns, and of rows, of the image that the windows cover. */
static inline Py_ssize_t
reach_x(const Window *w)
{
    return (w->width - 1) * w->stride_x + (Py_ssize_t)(w->kernel_w - 1) * w->dilation_x + 1;
}

static inline Py_ssize_t
reach_y(const Window *w, Py_ssize_t rows)
{
    return (rows - 1) * w->stride_y + (Py_ssize_t)(w->kernel_h - 1) * w->dilation_y + 1;
}

/* The columns that the windows cover: padding left, the image's columns, padding right. */
typedef struct {
    Py_ssize_t left, inside, right;
} Span;

static inline Span
span_of(const Window *w, Py_ssize_t y, Py_ssize_t rows, Py_ssize_t columns)
{
    const Py_ssize_t reach = reach_x(w);
    Span s = {w->pad_left < reach ? w->pad_left : reach, 0, 0};
    if (y < 0 || y >= rows)
        s.left = reach;
    s.inside = reach - s.left < columns ? reach - s.left : columns;
    s.right = reach - s.left - s.inside;
    return s;
}

/* The padded image of a block of output rows, [row, column, channel], and the windows in it. */
typedef struct {
    int16_t *image;
    ptrdiff_t *pixels; /* where the window of each pixel starts */
    ptrdiff_t *taps;
    Py_ssize_t rows; /* of the output in a block */
    Py_ssize_t line; /* elements of a row of the image */
    Taps windows;
} Block;

static void
free_block(Block *block)
{
    PyMem_RawFree(block->image);
    PyMem_RawFree(block->pixels);
    PyMem_RawFree(block->taps);
}

/* Compute the offsets of windows and taps in the image. With `merge`, a row of the kernel whose
 * values lie next to one another becomes one tap. */
static void
place(Block *block, const Window *w, Py_ssize_t channels, int merge)
{
    block->windows = (Taps){block->taps, (ptrdiff_t)w->kernel_h * w->kernel_w, channels};
    const int across = merge && w->dilation_x == 1 ? 1 : w->kernel_w;
    if (across == 1) {
        block->windows.count = w->kernel_h;
        block->windows.depth = w->kernel_w * channels;
    }
    for (Py_ssize_t p = 0; p < block->rows * w->width; p++)
        block->pixels[p] = p / w->width * w->stride_y * block->line +
                           p % w->width * w->stride_x * channels;
    for (ptrdiff_t t = 0; t < block->windows.count; t++)
        block->taps[t] = t / across * w->dilation_y * block->line +
                         t % across * w->dilation_x * channels;
}

/* Make a block for images with `channels` channels; return -1 if there is not enough memory. The
 * caller must free the block in both cases. */
static int
make_block(Block *block, const Window *w, Py_ssize_t channels, int merge)
{
    const Py_ssize_t columns = reach_x(w), one = reach_y(w, 1);
    const Py_ssize_t taps = (Py_ssize_t)w->kernel_h * w->kernel_w;
    if (channels > PY_SSIZE_T_MAX / 16 / columns)
        return -1;
    block->line = columns * channels;
    const Py_ssize_t bytes = block->line * (Py_ssize_t)sizeof *block->image;
    block->rows = bytes < NEAR / one ? (NEAR / bytes - one) / w->stride_y + 1 : 1;
    if (block->rows > w->rows)
        block->rows = w->rows > 0 ? w->rows : 1;
    const Py_ssize_t high = reach_y(w, block->rows);
    if (bytes > PY_SSIZE_T_MAX / high)
        return -1;
    block->image = PyMem_RawMalloc((size_t)(bytes * high));
    block->pixels = PyMem_RawMalloc((size_t)(block->rows * w->width) * sizeof *block->pixels);
    block->taps = PyMem_RawMalloc((size_t)taps * sizeof *block->taps);
    if (!block->image || !block->pixels || !block->taps)
        return -1;
    place(block, w, channels, merge);
    return 0;
}

/* Write row `y` of the image with its padding; the row may lie outside of the image. */
typedef void (*Fill)(const void *work, Py_ssize_t y, int16_t *to);

/* Take the sums of panel u for `count` pixels, beginning at pixel `at` of the output rows. */
typedef void (*Finish)(const void *work, Py_ssize_t u, Py_ssize_t at, int count,
                       int32_t (*sums)[LANES]);

/* Compute the sums of some windows, which start at `pixels` in the image. */
typedef void (*Tile)(const Block *block, const ptrdiff_t *pixels, int count, const void *weights,
                     Py_ssize_t u, Product product, int32_t (*sums)[LANES]);

/* Weights are panels of `windows.count * windows.depth * LANES` values. */
INLINE void
convolve_tile(const Block *block, const ptrdiff_t *pixels, int count, const void *weights,
              Py_ssize_t u, Product product, int32_t (*sums)[LANES])
{
    const int16_t *at[TILE];
    for (int r = 0; r < count; r++)
        at[r] = block->image + pixels[r];
    product(at, count, &block->windows,
            (const int16_t *)weights + u * block->windows.count * block->windows.depth * LANES,
            sums);
}

#if defined(__x86_64__)
#define STRIP 8 /* lanes of a vector for which the compiler has instructions */
#else
#define STRIP 4
#endif
typedef int16_t NarrowStrip __attribute__((vector_size(2 * STRIP)));
typedef uint32_t Strip __attribute__((vector_size(4 * STRIP))); /* numbers modulo 2^32 */

/* Weights are int32 [panel][tap][LANES]; channels are a multiple of LANES, taps not merged. */
INLINE void
depthwise_tile(const Block *block, const ptrdiff_t *pixels, int count, const void *weights,
               Py_ssize_t u, Product unused, int32_t (*sums)[LANES])
{
    (void)unused;
    for (int r = 0; r < count; r++) {
        const int16_t *window = block->image + pixels[r] + u * LANES;
        const int32_t *factors = (const int32_t *)weights + u * block->windows.count * LANES;
        Strip total[LANES / STRIP] = {{0}};
        for (ptrdiff_t t = 0; t < block->windows.count; t++)
            for (int i = 0; i < LANES / STRIP; i++, factors += STRIP) {
                NarrowStrip values;
                Strip factor;
                memcpy(&values, window + block->taps[t] + i * STRIP, sizeof values);
                memcpy(&factor, factors, sizeof factor);
                total[i] += __builtin_convertvector(values, Strip) * factor;
            }
        memcpy(sums[r], total, sizeof total);
    }
}

/* Compute all output rows, block by block, for `panels` panels. In callers all arguments except the
 * data are constants. */
INLINE void
run_blocks(const Window *w, const Block *block, Py_ssize_t panels, const void *weights, Tile tile,
           Fill fill, Finish finish, const void *work)
{
    const Product product = best_product();
    for (Py_ssize_t first = 0; first < w->rows; first += block->rows) {
        const Py_ssize_t rows = w->rows - first < block->rows ? w->rows - first : block->rows;
        const Py_ssize_t top = (w->first + first) * w->stride_y - w->pad_top;
        for (Py_ssize_t y = 0; y < reach_y(w, rows); y++)
            fill(work, top + y, block->image + y * block->line);
        for (Py_ssize_t u = 0; u < panels; u++)
            for (Py_ssize_t p = 0; p < rows * w->width; p += TILE) {
                const Py_ssize_t left = rows * w->width - p;
                const int count = left < TILE ? (int)left : TILE;
                int32_t sums[TILE][LANES];
                tile(block, block->pixels + p, count, weights, u, product, sums);
                finish(work, u, first * w->width + p, count, sums);
            }
    }
}

#endif
