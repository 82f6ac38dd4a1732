// The journal of attempts between commit and grant: one small file each, so that a restarted daemon goes on.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "daemon/wire.pb.h"

namespace sealift::daemon {

[[nodiscard]] std::string hex(const std::string& bytes);
[[nodiscard]] std::filesystem::path journal_path(const std::filesystem::path& state_dir, const std::string& attempt);
[[nodiscard]] std::filesystem::path spool_path(const std::filesystem::path& spool_dir, const std::string& attempt);

// Whole or not at all. Not synced: it outlives this daemon, and need not outlive the machine, as the agent that holds
// the ticket does not either. Throws std::system_error.
void replace_file(const std::filesystem::path& path, const std::string& bytes);
void write_journal(const std::filesystem::path& path, const wire::Journal& journal);
// Every journal in the folder; files that are none are left alone.
[[nodiscard]] std::vector<wire::Journal> read_journals(const std::filesystem::path& state_dir);

}  // namespace sealift::daemon
