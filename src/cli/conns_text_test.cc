#include "cli/conns_text.h"

#include <gtest/gtest.h>

namespace toe::cli {
namespace {

using Json = nlohmann::ordered_json;

TEST(ConnsText, ColumnsOfSs) {
  EXPECT_EQ(conns_text(R"({"schema":1,"conns":[
      {"local":"10.0.0.1:80","remote":"10.0.0.2:4000","state":"ESTAB","pid":7,"comm":"a\u001bb",
       "rx_bytes":5,"tx_bytes":6,"rx_queue":1,"tx_queue":2},
      {"local":"10.0.0.1:80","remote":"10.0.0.2:4001","state":"FIN-WAIT-1","pid":null}],
      "listeners":[{"local":"[::]:80","state":"LISTEN","pid":7,"waiting":3,"backlog":9}]})"),
            R"(State       Recv-Q  Send-Q  Local Address:Port  Peer Address:Port  Process
LISTEN      3       9       [::]:80             [::]:*             users:(("?",pid=7))
ESTAB       1       2       10.0.0.1:80         10.0.0.2:4000      users:(("a?b",pid=7))
FIN-WAIT-1  0       0       10.0.0.1:80         10.0.0.2:4001
)");
}

TEST(ConnsText, DetailsInTheOrderOfSs) {
  const Json connection = Json::parse(R"({"pmtu":1500,"ts":true,"sack":true,"ecn":"seen",
      "cc":"cubic","wscale":[7,9],"rto_us":204500,"backoff":1,"rtt_us":1500,"rttvar_us":750,
      "mss":1448,"rcv_mss":536,"cwnd":10,"ssthresh":7,"bytes_sent":30,"bytes_retrans":4,
      "tx_bytes":26,"rx_bytes":50,"segs_out":6,"segs_in":7,"data_segs_out":8,"data_segs_in":9,
      "lastsnd_ms":11,"lastrcv_ms":12,"lastack_ms":13,"pacing_rate":125000000,"unacked":2,
      "retrans_out":1,"retrans":3,"lost":1,"rcv_space":16384,"notsent":77,"min_rtt_us":40,
      "snd_wnd":65160})");
  EXPECT_EQ(connection_details(connection),
            " ts sack ecn ecnseen cubic wscale:7,9 rto:204.5 backoff:1 rtt:1.5/0.75 mss:1448"
            " pmtu:1500 rcvmss:536 cwnd:10 ssthresh:7 bytes_sent:30 bytes_retrans:4 bytes_acked:26"
            " bytes_received:50 segs_out:6 segs_in:7 data_segs_out:8 data_segs_in:9"
            " send 77.2Mbps lastsnd:11 lastrcv:12 lastack:13 pacing_rate 1Gbps unacked:2"
            " retrans:1/3 lost:1 rcv_space:16384 notsent:77 minrtt:0.04 snd_wnd:65160");
}

TEST(ConnsText, WhatIsUnknownIsLeftOut) {
  EXPECT_EQ(connection_details(Json::parse(R"({"cc":"cubic","mss":0})")), "");
  EXPECT_EQ(connection_details(Json::parse(R"({"cc":"cubic","pmtu":1500,"ecn":"off",
      "ssthresh":2147483647,"rtt_us":0,"cwnd":10,"mss":1448,"pacing_rate":0})")),
            " cubic mss:1448 pmtu:1500 cwnd:10");
}

TEST(ConnsText, Rates) {
  EXPECT_EQ(rate_text(0), "0");
  EXPECT_EQ(rate_text(999), "999");
  EXPECT_EQ(rate_text(1000), "1k");
  EXPECT_EQ(rate_text(1.556e9), "1.56G");
  EXPECT_EQ(rate_text(3e12), "3T");
}

TEST(ConnsText, SaysWhenItIsNotAll) {
  EXPECT_NE(conns_text(R"({"conns":[],"listeners":[],"truncated":true})").find("more connections"),
            std::string::npos);
}

}  // namespace
}  // namespace toe::cli
