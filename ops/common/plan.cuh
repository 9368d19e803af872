// Division of the outputs of a call among blocks of threads.
//
// An item is one group of one output. A tile is a rectangle of neighbouring outputs with some
// neighbouring groups. Its items read overlapping memory, so one block processes it. The numbers
// here affect only the speed, not the results.
#pragma once

#include "common/numbers.cuh"
#include "dcnv3/dcnv3.h"  // BEVSTACK_HOST_DEVICE

namespace bevstack {
namespace gpu {

struct Tile {
  int64_t image, y, x;     // of its first output
  int height, width;       // in outputs, cut at the border of the map
  int first_group, groups;

  BEVSTACK_HOST_DEVICE int items() const { return height * width * groups; }
};

struct Item {
  int64_t y, x;
  int group;
};

// Returns item `index` of a tile. Groups vary fastest, so that a warp reads neighbouring offsets.
BEVSTACK_HOST_DEVICE inline Item item_of(const Tile& tile, int index) {
  const unsigned pixel = unsigned(index) / unsigned(tile.groups);
  const unsigned line = pixel / unsigned(tile.width);
  return {tile.y + line, tile.x + (pixel - line * unsigned(tile.width)),
          tile.first_group + index - int(pixel) * tile.groups};
}

struct Plan {
  int64_t images, height, width;  // of the outputs
  int groups;
  int tile_height, tile_width, tile_groups;
  int64_t tiles_y, tiles_x;
  int group_blocks;

  // Below 2^31: if there are many outputs, a tile has 64 of them.
  BEVSTACK_HOST_DEVICE int64_t tiles() const { return images * tiles_y * tiles_x * group_blocks; }

  // Computed in 32 bits: a 64-bit division is a function call, around which registers are spilled.
  BEVSTACK_HOST_DEVICE Tile tile(unsigned index) const {
    Tile tile;
    const unsigned rest = index / unsigned(group_blocks);
    tile.first_group = int(index - rest * unsigned(group_blocks)) * tile_groups;
    const unsigned lines = rest / unsigned(tiles_x);
    tile.x = int64_t(rest - lines * unsigned(tiles_x)) * tile_width;
    const unsigned image = lines / unsigned(tiles_y);
    tile.image = image;
    tile.y = int64_t(lines - image * unsigned(tiles_y)) * tile_height;
    tile.width = int(smaller(tile_width, width - tile.x));
    tile.height = int(smaller(tile_height, height - tile.y));
    tile.groups = int(smaller(tile_groups, groups - tile.first_group));
    return tile;
  }

 private:
  BEVSTACK_HOST_DEVICE static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
};

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

constexpr int kGroupBytes = 256;  // of one pixel that a tile reads: two cache lines
constexpr int kTileOutputs = 64;
constexpr int kTileSide = 8;
constexpr int kTilesPerProcessor = 4;  // minimum aimed at, so that all multiprocessors have work

// Divides images of (height, width) outputs into tiles. Maps of one line, such as lists of queries,
// are cut into runs. If there are few outputs, tiles shrink, down to `least_items` items.
inline Plan make_plan(int64_t images, int64_t height, int64_t width, int groups, int group_bytes,
                      int least_items, int processors) {
  Plan plan{};
  plan.images = images;
  plan.height = height;
  plan.width = width;
  plan.groups = groups;
  const int64_t wanted_groups = kGroupBytes / group_bytes < 1 ? 1 : kGroupBytes / group_bytes;
  plan.tile_groups = int(divide_up(groups, divide_up(groups, wanted_groups)));
  plan.group_blocks = int(divide_up(groups, plan.tile_groups));
  plan.tile_height = height == 1 ? 1 : kTileSide;
  plan.tile_width = kTileOutputs / plan.tile_height;
  for (;;) {
    plan.tiles_y = divide_up(height, plan.tile_height);
    plan.tiles_x = divide_up(width, plan.tile_width);
    const int items = plan.tile_height * plan.tile_width * plan.tile_groups;
    if (items <= least_items || plan.tiles() >= int64_t(processors) * kTilesPerProcessor) break;
    if (plan.tile_height > 1 && plan.tile_height >= plan.tile_width) {
      plan.tile_height /= 2;
    } else if (plan.tile_width > 1) {
      plan.tile_width /= 2;
    } else {
      break;
    }
  }
  return plan;
}

}  // namespace gpu
}  // namespace bevstack
