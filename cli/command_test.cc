// The real command against real daemons: what it prints, and its exit codes.
#include <stdio.h>
#include <sys/wait.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/exit_codes.h"
#include "daemon/testing/cluster.h"

namespace sealift::cli {
namespace {

struct Output {
  std::string text;  // standard output, then standard error
  int code = -1;
};

class Command : public daemon::testing::Cluster {
 protected:
  Output run(daemon::testing::Host& host, const std::string& arguments) {
    const std::string program = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "sealift";
    return shell(program + " --socket " + host.socket() + " " + arguments + " 2>&1");
  }
  static Output shell(const std::string& command) {
    FILE* pipe = ::popen(command.c_str(), "r");
    Output out;
    char bytes[4096];
    for (std::size_t count = 0; (count = ::fread(bytes, 1, sizeof(bytes), pipe)) > 0;) out.text.append(bytes, count);
    const int status = ::pclose(pipe);
    out.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return out;
  }
};

TEST_F(Command, MigratePrintsALineForEachPhaseAndTheOutcome) {
  start_program(a_);
  hold("source-a", "dump3");  // so that no phase is over before it is seen
  auto output = std::async(std::launch::async, [this] { return run(a_, "migrate app " + b_.listen); });
  held("source-a", "dump3");
  release("source-a", "dump3");
  const Output done = output.get();
  EXPECT_EQ(done.code, kExitOk) << done.text;
  EXPECT_NE(done.text.find("app: stream\n"), std::string::npos) << done.text;
  EXPECT_NE(done.text.find("app: done\napp runs on " + b_.listen + ": "), std::string::npos) << done.text;
  EXPECT_EQ(done.text.find('\r'), std::string::npos) << "no redrawing without a terminal";
}

TEST_F(Command, JsonIsJson) {
  start_program(a_);
  const auto ps = nlohmann::json::parse(run(a_, "ps --json").text);
  ASSERT_EQ(ps.size(), 1u);
  EXPECT_EQ(ps[0]["name"], "app");
  EXPECT_EQ(ps[0]["state"], "running");
  const auto moved = nlohmann::json::parse(run(a_, "migrate --json 7700 " + b_.listen).text);
  EXPECT_EQ(moved["phase"], "done");
  const auto status = nlohmann::json::parse(run(b_, "status --json").text);
  EXPECT_EQ(status["daemon"], "b");
  EXPECT_EQ(status["migrations"][0]["direction"], "in");
  EXPECT_EQ(status["enclaves"][0]["epoch"], 2);
  const auto error = nlohmann::json::parse(run(a_, "cancel --json nobody").text);
  EXPECT_TRUE(error["error"]["message"].is_string());
}

TEST_F(Command, ErrorsAreOneLineAndHaveTheirCodes) {
  start_program(a_);
  const std::vector<std::pair<std::string, int>> cases = {
      {"migrate nobody " + b_.listen, kExitNotFound},
      {"migrate app host:port", kExitUsage},
      {"migrate app 127.0.0.1:1", kExitUnreachable},
      {"cancel app", kExitNotFound},
      {"resume app", kExitNotFound},
      {"status nobody", kExitNotFound},
  };
  for (const auto& [arguments, code] : cases) {
    const Output output = run(a_, arguments);
    EXPECT_EQ(output.code, code) << arguments << '\n' << output.text;
    const std::string last = output.text.substr(output.text.rfind('\n', output.text.size() - 2) + 1);
    EXPECT_EQ(output.text.back(), '\n');
    EXPECT_TRUE(last.starts_with("sealift: ") || last.starts_with("app: failed: ")) << last;
  }
  EXPECT_EQ(run(a_, "migrate").code, kExitUsage);
  EXPECT_EQ(run(a_, "frobnicate").code, kExitUsage);
}

TEST_F(Command, CancelAndItsVictimAgree) {
  start_program(a_);
  hold("source-a", "dump3");
  auto migrating = std::async(std::launch::async, [this] { return run(a_, "migrate app " + b_.listen); });
  held("source-a", "dump3");
  auto cancelling = std::async(std::launch::async, [this] { return run(a_, "cancel app"); });
  for (bool seen = false; !seen;) {
    const wire::StatusReply now = status(a_);
    for (const auto& info : now.migrations()) seen |= info.phase() == wire::CANCELLING;
  }
  release("source-a", "dump3");
  EXPECT_EQ(cancelling.get().code, kExitOk);
  EXPECT_EQ(migrating.get().code, kExitCancelled);
  EXPECT_EQ(the_one_running(), "source-a");
}

TEST_F(Command, StatusForPeopleNamesEverything) {
  start_program(a_);
  ASSERT_EQ(migrate(a_, b_).get().phase(), wire::DONE);
  const std::string text = run(b_, "status").text;
  EXPECT_NE(text.find("sealiftd b, listens on " + b_.listen + ", agent up"), std::string::npos) << text;
  EXPECT_NE(text.find("770000000000  2      app"), std::string::npos) << text;
  EXPECT_NE(text.find("done"), std::string::npos) << text;
}

TEST_F(Command, CompletionsKnowEveryCommand) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const Output script = run(a_, std::string("completion ") + shell);
    EXPECT_EQ(script.code, kExitOk);
    for (const char* command : {"ps", "migrate", "cancel", "resume", "status", "completion"}) {
      EXPECT_NE(script.text.find(command), std::string::npos) << shell << ' ' << command;
    }
  }
  EXPECT_EQ(run(a_, "completion tcsh").code, kExitUsage);
}

// What bash offers, as it would ask: the words up to the one that is being typed.
TEST_F(Command, BashCompletesSubcommandsTheirOptionsAndNames) {
  const auto offered = [&](const std::string& words) {
    const std::filesystem::path script = a_.dir / "completion.bash";
    std::ofstream(script) << run(a_, "completion bash").text;
    const std::string ask = "source " + script.string() + "; COMP_WORDS=(" + words +
                            "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _sealift; echo \"${COMPREPLY[@]}\"";
    return shell("bash -c '" + ask + "'").text;
  };
  EXPECT_EQ(offered("sealift vm \"\""), "add list migrate cancel remove\n");
  EXPECT_EQ(offered("sealift vm m"), "migrate\n");
  EXPECT_EQ(offered("sealift vm add web --q"), "--qmp\n");
  EXPECT_EQ(offered("sealift vm migrate web host --do"), "--downtime-limit\n");
  EXPECT_EQ(offered("sealift mig"), "migrate\n");
  EXPECT_EQ(offered("sealift migrate x y --j"), "--json\n");
}

}  // namespace
}  // namespace sealift::cli
