// Table-driven state machine: the lookup that source.h and target.h share. Pure; only listed transitions exist.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

namespace sealift {

inline constexpr std::size_t kMaxActions = 4;

// In state `from`, `event` leads to `to`, and the driver then performs `actions` in order. Unused actions are kNone.
template <typename State, typename Event, typename Action>
struct Transition {
  State from;
  Event event;
  State to;
  std::array<Action, kMaxActions> actions;

  [[nodiscard]] constexpr std::span<const Action> todo() const noexcept {
    const auto end = std::find(actions.begin(), actions.end(), Action::kNone);
    return {actions.data(), static_cast<std::size_t>(end - actions.begin())};
  }
};

// What an event did. Unlisted: nothing changed and there is nothing to do.
template <typename Action>
struct Step {
  bool listed = false;
  std::span<const Action> actions;  // points into the static table
};

// No two rows of a table may have the same state and event: the first would hide the second.
template <typename Row, std::size_t N>
[[nodiscard]] constexpr bool is_deterministic(const std::array<Row, N>& table) noexcept {
  for (std::size_t i = 0; i < N; ++i) {
    for (std::size_t j = i + 1; j < N; ++j) {
      if (table[i].from == table[j].from && table[i].event == table[j].event) return false;
    }
  }
  return true;
}

template <typename Row, typename State, typename Event>
[[nodiscard]] constexpr const Row* find_transition(std::span<const Row> table, State from, Event event) noexcept {
  const auto row =
      std::find_if(table.begin(), table.end(), [&](const Row& r) { return r.from == from && r.event == event; });
  return row == table.end() ? nullptr : &*row;
}

}  // namespace sealift
