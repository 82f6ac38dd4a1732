#include "daemon/guest_journal.h"

#include <spdlog/spdlog.h>
#include <sys/random.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "daemon/endpoint.h"
#include "daemon/journal.h"

namespace sealift::daemon {

namespace {

namespace fs = std::filesystem;

constexpr const char* kSuffix = ".guest";
constexpr std::size_t kAttemptBytes = 16;
constexpr std::size_t kLineageBytes = 16;
constexpr std::size_t kMaxName = 256;
constexpr std::uintmax_t kMaxFile = 4u << 20;  // kMaxAttempts with long names

// Names that sort by age, so that the oldest is known after a restart.
fs::path new_path(const fs::path& state_dir) {
  const auto age = std::chrono::system_clock::now().time_since_epoch();
  std::string name;
  for (auto left = static_cast<std::uint64_t>(std::chrono::nanoseconds(age).count()); name.size() < 8; left <<= 8) {
    name.push_back(static_cast<char>(left >> 56));
  }
  char random[4];
  if (::getrandom(random, sizeof random, 0) != sizeof random) throw std::runtime_error("no randomness");
  return state_dir / (hex(name.append(random, sizeof random)) + kSuffix);
}

bool valid(const wire::GuestJournal& journal) {
  const auto good = [](const wire::GuestJournal::Attempt& each) {
    return each.who().attempt().size() == kAttemptBytes && each.who().lineage().size() == kLineageBytes &&
           each.name().size() <= kMaxName;
  };
  const auto where = parse_host_port(journal.target());
  return !journal.guest().empty() && journal.guest().size() <= kMaxName && where && !where->host.empty() &&
         journal.attempts_size() > 0 &&
         static_cast<std::size_t>(journal.attempts_size()) <= GuestJournal::kMaxAttempts &&
         std::all_of(journal.attempts().begin(), journal.attempts().end(), good);
}

bool read(const fs::path& path, wire::GuestJournal& out) {
  std::error_code error;
  if (fs::file_size(path, error) > kMaxFile || error) return false;
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  return file && out.ParseFromString(bytes.str()) && valid(out);
}

void put_aside(const fs::path& path) {
  const fs::path aside = path.string() + ".unreadable";
  std::error_code error;
  fs::rename(path, aside, error);
  spdlog::error("{} is not a journal of a guest's move: {}", path.string(),
                error ? error.message() : "put aside as " + aside.filename().string());
}

}  // namespace

GuestJournal::GuestJournal(const fs::path& state_dir, const std::string& guest, const std::string& target)
    : path_(new_path(state_dir)) {
  contents_.set_guest(guest);
  contents_.set_target(target);
}

GuestJournal::GuestJournal(fs::path path, wire::GuestJournal contents)
    : path_(std::move(path)), contents_(std::move(contents)) {}

std::vector<GuestJournal> GuestJournal::read_all(const fs::path& state_dir) {
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(state_dir)) {
    if (entry.path().extension() == kSuffix) paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  std::vector<GuestJournal> out;
  for (const fs::path& path : paths) {
    wire::GuestJournal contents;
    read(path, contents) ? out.push_back(GuestJournal(path, std::move(contents))) : put_aside(path);
  }
  while (out.size() > kMaxMoves) {
    spdlog::warn("guest {}: more than {} moves wait for grants: the oldest, to {}, is given up",
                 out.front().contents().guest(), kMaxMoves, out.front().contents().target());
    out.front().clear();
    out.front().flush();
    out.erase(out.begin());
  }
  return out;
}

void GuestJournal::add(const wire::GuestJournal::Attempt& attempt) {
  const auto same = [&](const auto& each) { return each.who().attempt() == attempt.who().attempt(); };
  if (std::any_of(contents_.attempts().begin(), contents_.attempts().end(), same)) return;
  if (static_cast<std::size_t>(contents_.attempts_size()) >= kMaxAttempts) return;
  wire::GuestJournal::Attempt& added = *contents_.add_attempts() = attempt;
  if (added.name().size() > kMaxName) added.mutable_name()->resize(kMaxName);
  dirty_ = true;
}

void GuestJournal::remove(const std::string& attempt) {
  auto& all = *contents_.mutable_attempts();
  const auto gone = std::remove_if(all.begin(), all.end(), [&](const auto& e) { return e.who().attempt() == attempt; });
  dirty_ = dirty_ || gone != all.end();
  all.erase(gone, all.end());
}

void GuestJournal::clear() {
  dirty_ = dirty_ || contents_.attempts_size() > 0;
  contents_.clear_attempts();
}

void GuestJournal::flush() {
  if (!dirty_) return;
  try {
    if (contents_.attempts_size() > 0) {
      replace_file(path_, contents_.SerializeAsString());
    } else {
      fs::remove(path_);
    }
    dirty_ = false;
  } catch (const std::system_error& error) {
    spdlog::error("guest {}: no journal of its move: {}", contents_.guest(), error.what());
  }
}

}  // namespace sealift::daemon
