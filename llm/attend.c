/* Attention to lines of keys and values, for llm/native.py: plain C with the vectors of gcc and clang.

   NUMBER is what keys, values, queries and results are stored as (BF16: 1 or 0), FEATURES those of
   a head, a multiple of 16. Sums are fp32. Keys lie in groups of GROUP tokens with the tokens side
   by side, so that a product of a query with a group adds up whole vectors; values lie token by
   token. Each query is worked out in the same order whatever is computed beside it. */

#include <omp.h>

#include "vectors.h"

#define GROUP 32
#define PARTS (GROUP / LANES)
#define WIDE (FEATURES / LANES)

#if BF16
typedef uint16_t number;
#define widen widen_bf16
#define shorten shorten_bf16
#define load load_bf16
#else
typedef float number;
#define widen(x) (x)
#define shorten(x) (x)
#define load load_floats
#endif

/* `count` queries that look at the keys of one head: of tokens that follow each other (`later` is 1),
   the first at `place`, or of heads that share those keys, all at `place` (`later` is 0). Each sees
   the last `window` tokens, its own included. `slopes` (or null): of each head, how much a key counts
   less for every token that it is away (ALiBi). */
static inline __attribute__((always_inline)) void look(
    const int count, const int later, const float *query, number *out, int64_t step,
    const number *keys, const number *values, int64_t place, int64_t window, const float *slopes,
    float *scores, int64_t room) {
    const float scale = 1.0f / sqrtf(FEATURES);
    const int64_t seen = place + 1 + later * (count - 1), groups = (seen + GROUP - 1) / GROUP;
    const int64_t first = place < window ? 0 : place + 1 - window, begin = first / GROUP;
    for (int64_t g = begin; g < groups; g++) {
        const number *group = keys + g * GROUP * FEATURES;
        vector sums[4][PARTS];
        for (int i = 0; i < count; i++)
            for (int p = 0; p < PARTS; p++) sums[i][p] = (vector){0};
        for (int e = 0; e < FEATURES; e++)
            for (int p = 0; p < PARTS; p++) {
                const vector key = load(group + e * GROUP + p * LANES);
                for (int i = 0; i < count; i++) sums[i][p] += key * query[i * step + e];
            }
        for (int i = 0; i < count; i++)
            for (int p = 0; p < PARTS; p++) {
                const int64_t at = g * GROUP + p * LANES;
                vector scaled = sums[i][p] * scale;
                if (slopes) {
                    const vector away = counting() + (float)(at - place - later * i);
                    scaled += away * slopes[later ? 0 : i];
                }
                memcpy(scores + i * room + at, &scaled, sizeof scaled);
            }
    }
    float totals[4];
    for (int i = 0; i < count; i++) {
        float *row = scores + i * room, most = -INFINITY;
        const int64_t own = place + later * i + 1, from = own < window ? 0 : own - window;
        for (int64_t s = begin * GROUP; s < from; s++) row[s] = -INFINITY;
        for (int64_t s = own; s < groups * GROUP; s++) row[s] = -INFINITY;
        vector best = load_floats(row + begin * GROUP);
        for (int64_t s = begin * GROUP + LANES; s < groups * GROUP; s += LANES) {
            const vector here = load_floats(row + s);
            const whole more = here > best;
            best = (vector)((more & (whole)here) | (~more & (whole)best));
        }
        for (int l = 0; l < LANES; l++) most = best[l] > most ? best[l] : most;
        vector total = {0};
        for (int64_t s = begin * GROUP; s < groups * GROUP; s += LANES) {
            const vector weight = power(load_floats(row + s) - most);
            memcpy(row + s, &weight, sizeof weight);
        }
        for (int64_t s = begin * GROUP; s < from; s++) row[s] = 0;
        for (int64_t s = own; s < groups * GROUP; s++) row[s] = 0;
        for (int64_t s = begin * GROUP; s < groups * GROUP; s += LANES)
            total += load_floats(row + s);
        totals[i] = added_up(total);
    }
    vector mixed[4][WIDE];
    for (int i = 0; i < count; i++)
        for (int w = 0; w < WIDE; w++) mixed[i][w] = (vector){0};
    for (int64_t s = first; s < seen; s++)
        for (int w = 0; w < WIDE; w++) {
            const vector value = load(values + s * FEATURES + w * LANES);
            for (int i = 0; i < count; i++) mixed[i][w] += value * scores[i * room + s];
        }
    for (int i = 0; i < count; i++)
        for (int w = 0; w < WIDE; w++)
            for (int l = 0; l < LANES; l++)
                out[i * step + w * LANES + l] = shorten(mixed[i][w][l] / totals[i]);
}

/* Up to 4 of so many heads that share keys. */
static inline void look_at_once(
    int64_t count, const float *query, number *out, const number *keys, const number *values,
    int64_t place, int64_t window, const float *slopes, float *scores, int64_t room) {
#define LOOK(n) look(n, 0, query, out, FEATURES, keys, values, place, window, slopes, scores, room)
    if (count >= 4) LOOK(4);
    if (count == 3) LOOK(3);
    if (count == 2) LOOK(2);
    if (count == 1) LOOK(1);
#undef LOOK
}

/* Normalises a query or key (`norm`: weights, or null) and turns pairs of features that lie side by
   side (`turn` is null where nothing is turned). */
static inline void turned(const number *from, const float *norm, float epsilon, const float *turn,
                          float *to) {
    vector squares = {0};
    for (int e = 0; norm && e < FEATURES; e += LANES) squares += load(from + e) * load(from + e);
    const float scale = norm ? 1.0f / sqrtf(added_up(squares) / FEATURES + epsilon) : 1.0f;
    for (int e = 0; e < FEATURES; e += 2) {
        const float a = norm ? widen(from[e]) * scale * norm[e] : widen(from[e]);
        const float b = norm ? widen(from[e + 1]) * scale * norm[e + 1] : widen(from[e + 1]);
        const float c = turn ? turn[e] : 1.0f, s = turn ? turn[e + 1] : 0.0f;
        to[e] = a * c - b * s;
        to[e + 1] = a * s + b * c;
    }
}

/* qkv: (tokens, heads + 2 shared, FEATURES) -> out: (tokens, heads, FEATURES); `shared` are the heads
   of keys and values, each of which serves as many neighbouring ones of queries.
   keys: (lines, shared, room / GROUP, FEATURES, GROUP); values: (lines, shared, room, FEATURES);
   lines, places: of each token; turns: (context, FEATURES) or null; norms: (2, FEATURES) or null,
   of queries and keys; slopes: (heads,) or null;
   items: (2, n): first token and count, at most 4, of tokens that are looked after together;
   queries: (tokens, heads, FEATURES) to work in; scores: (threads, 4, room), too. */
void attend(const number *qkv, number *out, number *keys, number *values, const int64_t *lines,
            const int64_t *places, const float *turns, const float *norms, const float *slopes,
            const int64_t *items, float *queries, float *all_scores, int64_t tokens, int64_t heads,
            int64_t shared, int64_t room, int64_t window, int64_t count, int64_t threads,
            float epsilon) {
    const int64_t width = heads * FEATURES, group = heads / shared;
    const int64_t row = width + 2 * shared * FEATURES;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < tokens * shared; i++) {
            const int64_t n = i / shared, h = i % shared, place = places[n];
            const number *query = qkv + n * row + h * group * FEATURES;
            const number *key = qkv + n * row + width + h * FEATURES;
            const float *turn = turns ? turns + place * FEATURES : 0;
            const int64_t line = (lines[n] * shared + h) * room * FEATURES;
            for (int64_t k = 0; k < group; k++)
                turned(query + k * FEATURES, norms, epsilon, turn,
                       queries + n * width + (h * group + k) * FEATURES);
            float fresh[FEATURES];
            turned(key, norms ? norms + FEATURES : 0, epsilon, turn, fresh);
            number *to = keys + line + place / GROUP * GROUP * FEATURES + place % GROUP;
            for (int e = 0; e < FEATURES; e++) to[e * GROUP] = shorten(fresh[e]);
            memcpy(values + line + place * FEATURES, key + shared * FEATURES,
                   FEATURES * sizeof(number));
        }
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < count * shared; i++) {
            const int64_t n = items[i / shared], h = i % shared;
            const int together = items[count + i / shared];
            const int64_t line = (lines[n] * shared + h) * room * FEATURES;
            float *scores = all_scores + omp_get_thread_num() * 4 * room;
            if (together == 4)
                for (int64_t k = h * group; k < (h + 1) * group; k++)
                    look(4, 1, queries + (n * heads + k) * FEATURES, out + (n * heads + k) * FEATURES,
                         width, keys + line, values + line, places[n], window,
                         slopes ? slopes + k : 0, scores, room);
            else
                for (int64_t m = n; m < n + together; m++)
                    for (int64_t k = h * group; k < (h + 1) * group; k += 4)
                        look_at_once((h + 1) * group - k, queries + (m * heads + k) * FEATURES,
                                     out + (m * heads + k) * FEATURES, keys + line, values + line,
                                     places[m], window, slopes ? slopes + k : 0, scores, room);
        }
    }
}
