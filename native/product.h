/* Sums of products of int16 over windows of an image: what convolutions spend their time on.
 *
 * The image is int16 and padded already, so that a window is a base pointer and the same offsets
 * (taps) for every pixel; at each tap lie `depth` values next to one another, an even number.
 * Weights come in panels of 16 outputs, packed [tap, pair of values, output, value of the pair].
 * Sums are modulo 2^32: exact where they fit int32, whatever happens on the way.
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

/* Windows at `pixels` (1 to TILE of them) times one panel. */
typedef void (*Product)(const int16_t *const *pixels, int count, const Taps *taps,
                        const int16_t *panel, int32_t (*out)[LANES]);

INLINE void
sum_plain(const int16_t *const *pixels, const int count, const Taps *taps, const int16_t *panel,
          int32_t (*out)[LANES])
{
    uint32_t sums[TILE][LANES] = {{0}};
    for (ptrdiff_t t = 0; t < taps->count; t++)
        for (ptrdiff_t k = taps->taps[t], end = k + taps->depth; k < end; k += 2, panel += 2 * LANES)
            for (int r = 0; r < count; r++) {
                const int32_t a = pixels[r][k], b = pixels[r][k + 1];
                for (int n = 0; n < LANES; n++)
                    sums[r][n] += (uint32_t)(a * panel[2 * n]) + (uint32_t)(b * panel[2 * n + 1]);
            }
    memcpy(out, sums, (size_t)count * sizeof *sums);
}

static void
product_plain(const int16_t *const *pixels, int count, const Taps *taps, const int16_t *panel,
              int32_t (*out)[LANES])
{
    if (count == TILE)
        sum_plain(pixels, TILE, taps, panel, out);
    else
        sum_plain(pixels, count, taps, panel, out);
}

#if defined(__x86_64__) && defined(__GNUC__)
#define HAVE_AVX2 __builtin_cpu_supports("avx2")
#include <immintrin.h>

__attribute__((target("avx2"))) INLINE void
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

__attribute__((target("avx2"))) static void
product_avx2(const int16_t *const *pixels, int count, const Taps *taps, const int16_t *panel,
             int32_t (*out)[LANES])
{
    switch (count) {
    case 1: sum_avx2(pixels, 1, taps, panel, out); break;
    case 2: sum_avx2(pixels, 2, taps, panel, out); break;
    case 3: sum_avx2(pixels, 3, taps, panel, out); break;
    case 4: sum_avx2(pixels, 4, taps, panel, out); break;
    case 5: sum_avx2(pixels, 5, taps, panel, out); break;
    default: sum_avx2(pixels, TILE, taps, panel, out); break;
    }
}
#else
#define HAVE_AVX2 0
#define product_avx2 product_plain
#endif

/* The fastest that this processor can run. */
static inline Product
best_product(void)
{
    return HAVE_AVX2 ? product_avx2 : product_plain;
}

#endif
