/* Sums of products of int16 over windows of an image: the inner loops of convolutions.
 *
 * The image is int16 and already padded. So a window is a base pointer, and the offsets of its taps
 * are the same for every pixel. Each tap has `depth` values in a row, an even number. Weights are
 * packed in panels of 16 outputs: [tap, pair of values, output, value of the pair]. Sums are modulo
 * 2^32, so they are exact if the result fits int32, even if partial sums do not.
 */
#ifndef TEFLON_PRODUCT_H
#define TEFLON_PRODUCT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LANES 16 /* outputs of a panel */
#define TILE 6   /* pixels at a time: their sums stay in registers */

#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

typedef struct {
    const ptrdiff_t *taps;
    ptrdiff_t count, depth;
} Taps;

/* Multiply the windows at `pixels` (1 to TILE of them) with one panel. */
typedef void (*Product)(const int16_t *const *pixels, int count, const Taps *taps,
                        const int16_t *panel, int32_t (*out)[LANES]);

/* GNU C vectors of 16 bytes: gcc and clang have instructions for them on every processor. */
typedef int32_t Ints __attribute__((vector_size(16)));
typedef uint32_t Naturals __attribute__((vector_size(16)));

#define QUARTER (LANES / 4)

/* The first or second values of a panel's 16 pairs. */
INLINE void
take_values(const int16_t *pairs, int second, Naturals values[4])
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    second = !second;
#endif
    for (int q = 0; q < 4; q++) {
        Ints both;
        memcpy(&both, pairs + 2 * QUARTER * q, sizeof both);
        values[q] = (Naturals)(second ? both >> 16 : (Ints)((Naturals)both << 16) >> 16);
    }
}

INLINE void
sum_plain(const int16_t *const *pixels, const int count, const Taps *taps, const int16_t *panel,
          int32_t (*out)[LANES])
{
    Naturals sums[TILE][4];
    for (int r = 0; r < count; r++)
        for (int q = 0; q < 4; q++)
            sums[r][q] = (Naturals){0};
    for (ptrdiff_t t = 0; t < taps->count; t++)
        for (ptrdiff_t k = taps->taps[t], end = k + taps->depth; k < end; k += 2, panel += 2 * LANES)
            for (int i = 0; i < 2; i++) {
                Naturals weights[4];
                take_values(panel, i, weights);
                for (int r = 0; r < count; r++)
                    for (int q = 0; q < 4; q++)
                        sums[r][q] += weights[q] * (uint32_t)pixels[r][k + i];
            }
    memcpy(out, sums, (size_t)count * sizeof *sums);
}

/* One loop for each number of pixels, so that its sums stay in registers. */
#define EACH_COUNT(sum)                                                                            \
    switch (count) {                                                                               \
    case 1: sum(pixels, 1, taps, panel, out); break;                                               \
    case 2: sum(pixels, 2, taps, panel, out); break;                                               \
    case 3: sum(pixels, 3, taps, panel, out); break;                                               \
    case 4: sum(pixels, 4, taps, panel, out); break;                                               \
    case 5: sum(pixels, 5, taps, panel, out); break;                                               \
    default: sum(pixels, TILE, taps, panel, out); break;                                           \
    }

static void
product_plain(const int16_t *const *pixels, int count, const Taps *taps, const int16_t *panel,
              int32_t (*out)[LANES])
{
    EACH_COUNT(sum_plain)
}

#if defined(__x86_64__) && defined(__GNUC__)
#define HAVE_AVX2 __builtin_cpu_supports("avx2")
#define AVX2 __attribute__((target("avx2")))
#include <immintrin.h>

AVX2 INLINE void
sum_avx2(const int16_t *const *pixels, const int count, const Taps *taps, const int16_t *panel,
         int32_t (*out)[LANES])
{
    __m256i low[TILE], high[TILE];
    for (int r = 0; r < count; r++)
        low[r] = high[r] = _mm256_setzero_si256();
    for (ptrdiff_t t = 0; t < taps->count; t++)
        for (ptrdiff_t k = taps->taps[t], end = k + taps->depth; k < end; k += 2, panel += 2 * LANES) {
            const __m256i first = _mm256_loadu_si256((const __m256i *)(const void *)panel);
            const __m256i second = _mm256_loadu_si256((const __m256i *)(const void *)(panel + LANES));
            for (int r = 0; r < count; r++) {
                int32_t pair;
                memcpy(&pair, pixels[r] + k, sizeof pair);
                const __m256i both = _mm256_set1_epi32(pair);
                low[r] = _mm256_add_epi32(low[r], _mm256_madd_epi16(both, first));
                high[r] = _mm256_add_epi32(high[r], _mm256_madd_epi16(both, second));
            }
        }
    for (int r = 0; r < count; r++) {
        _mm256_storeu_si256((__m256i *)(void *)out[r], low[r]);
        _mm256_storeu_si256((__m256i *)(void *)(out[r] + LANES / 2), high[r]);
    }
}

AVX2 static void
product_avx2(const int16_t *const *pixels, int count, const Taps *taps, const int16_t *panel,
             int32_t (*out)[LANES])
{
    EACH_COUNT(sum_avx2)
}
#else
#define HAVE_AVX2 0
#define product_avx2 product_plain
#endif

/* Return the fastest loop that this processor can run. */
static inline Product
best_product(void)
{
    return HAVE_AVX2 ? product_avx2 : product_plain;
}

#endif
