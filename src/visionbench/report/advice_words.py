"""The sentences of the advice in English and Chinese, for the terminal and for the report."""

from __future__ import annotations

WORDS: dict[str, tuple[str, str]] = {
    # headings
    "advice choice": ("What to choose", "如何选择"),
    "advice batch": ("Which batch size", "批大小"),
    "advice precision": ("Which precision", "精度"),
    "advice bounds": ("What a latency bound allows", "延迟上限允许什么"),
    "advice left out": ("Cases that were left out", "未参与选择的结果"),
    "advice next": ("Next commands", "下一步命令"),
    # the rule
    "rule": ("Rule: {rule}.", "规则：{rule}。"),
    "rule knee": (
        "the run with the largest throughput, at its knee, among the cases that {conditions}. The knee is the smallest "
        "batch size that reaches {share} of the largest throughput of the run",
        "在{conditions}的结果中，取吞吐量最大的运行及其拐点；拐点是达到该运行最大吞吐量 {share} 的最小批大小",
    ),
    "rule bound": (
        "the case with the largest throughput among the cases that {conditions}",
        "在{conditions}的结果中，取吞吐量最大者",
    ),
    "rule valid": ("are not invalid", "未判无效"),
    "rule latency": (
        "have a p95 of at most {limit} ms (p50, if the calls are too few for p95)",
        "p95 不超过 {limit} 毫秒（调用太少而无 p95 时用 p50）",
    ),
    "rule memory": ("need at most {limit} MiB", "内存不超过 {limit} MiB"),
    "rule quality": ("have a quality within {loss} of the best of the task", "质量与同任务最佳值相差不超过 {loss}"),
    "rule and": (" and ", "且"),
    "intervals within": (
        "Intervals of speed cover the calls of one process; measure.repeats=5 gives intervals across processes.",
        "速度区间仅反映单进程内的调用；measure.repeats=5 可得跨进程区间。",
    ),
    "intervals across": ("Intervals of speed are across processes.", "速度区间为跨进程区间。"),
    # the state of the cases
    "all invalid": (
        "nothing can be recommended: all {count} cases are invalid, because {kinds}",
        "无法推荐：全部 {count} 个结果均无效（{kinds}）",
    ),
    "none measured": (
        "nothing can be recommended: none of the {count} cases has numbers: {kinds}",
        "无法推荐：{count} 个结果均无数值（{kinds}）",
    ),
    "none usable": (
        "nothing can be recommended: none of the {count} cases is usable: {kinds}",
        "无法推荐：{count} 个结果均不可用（{kinds}）",
    ),
    "none timed": (
        "nothing can be recommended: no batch size was timed",
        "无法推荐：没有对任何批大小计时",
    ),
    "all questionable": (
        "this choice is preliminary, because all {count} cases that are not invalid are questionable: {kinds}",
        "{count} 个未判无效的结果全部存疑（{kinds}），此选择仅供参考",
    ),
    "cases": ("{kind} ({count} cases)", "{kind}（{count} 个）"),
    "one case": ("{kind} ({count} case)", "{kind}（{count} 个）"),
    # the choice
    "chosen": ("choose {name} at batch size {batch}: {values}", "选 {name}，批大小 {batch}：{values}"),
    "none": ("no case meets the rule: {why}", "没有结果满足规则：{why}"),
    "too slow": (
        "the lowest {by} is {latency} ms ({name} at batch size {batch})",
        "最低 {by} 为 {latency} 毫秒（{name}，批大小 {batch}）",
    ),
    "reason no throughput": ("throughput was not measured", "未测吞吐量"),
    "reason no latency": ("the latency is not known", "延迟未知"),
    "reason too slow": ("above the bound of latency", "超过延迟上限"),
    "reason no memory": ("the memory is not known", "内存未知"),
    "reason too large": ("above the bound of memory", "超过内存上限"),
    "reason no quality": ("the quality is not known", "质量未知"),
    "reason too inaccurate": ("below the bound of quality", "质量低于下限"),
    "uncompared": (
        "not compared, because no case is usable: {names}",
        "没有可用的结果，未参与比较：{names}",
    ),
    "by p50": (
        "this choice is by p50, because there are too few calls for p95 ({calls} calls, and p95 needs {needed})",
        "此选择依据 p50，因为调用太少而无 p95（{calls} 次，p95 需 {needed} 次）",
    ),
    "bound open": (
        "not decided: the interval of its {by}, {low} to {high} ms, contains the bound of {limit} ms",
        "尚无定论：其 {by} 的区间 {low} 至 {high} 毫秒包含上限 {limit} 毫秒",
    ),
    "faster by p50": (
        "by p50 alone, {name} at batch size {batch} is faster and may also meet the bound: {values}",
        "仅按 p50，{name}（批大小 {batch}）更快，也可能满足上限：{values}",
    ),
    "ties": (
        "not distinguishable from this choice, because the intervals of throughput overlap: {cases}",
        "与此选择无法区分（吞吐量区间重叠）：{cases}",
    ),
    "no intervals": (
        "no interval of throughput is known for some cases, so small differences are not decided",
        "部分结果没有吞吐量区间，微小差异无定论",
    ),
    "quality unknown": ("quality was not measured, so only speed decides", "未测质量，仅按速度选择"),
    "quality random": (
        "the weights are random, so the loss of quality of {precisions} is not known",
        "权重为随机值，{precisions} 的质量损失未知",
    ),
    "quality unmeasured": (
        "the loss of quality of {precisions} is not known, because quality was not measured",
        "未测质量，{precisions} 的质量损失未知",
    ),
    "full precision": (
        "without a loss of quality by precision (fp32): {name} at batch size {batch}, {values}",
        "若不因精度损失质量（fp32）：{name}，批大小 {batch}，{values}",
    ),
    "fastest": (
        "lowest latency: {name} at batch size {batch}, p50 {p50} ms",
        "延迟最低：{name}，批大小 {batch}，p50 {p50} 毫秒",
    ),
    "smallest": (
        "lowest memory: {name} at batch size {batch}, {mib} MiB",
        "内存最少：{name}，批大小 {batch}，{mib} MiB",
    ),
    "doubtful because": ("{mark} questionable ({kinds})", "{mark} 存疑（{kinds}）"),
    "case": ("{name} at batch size {batch} ({values})", "{name}，批大小 {batch}（{values}）"),
    # batch sizes
    "knee": (
        "{name}: the knee is batch size {batch}, {speed}: {share} of the largest throughput ({best} at batch size "
        "{best_batch})",
        "{name}：拐点为批大小 {batch}，{speed}，为最大吞吐量的 {share}（批大小 {best_batch} 时 {best}）",
    ),
    "knee is best": (
        "{name}: the knee is batch size {batch}, which has the largest throughput: {speed}",
        "{name}：拐点为批大小 {batch}，即吞吐量最大处：{speed}",
    ),
    "no knee": (
        "{name}: no knee, because only batch size {batch} can be compared: {speed}",
        "{name}：只有批大小 {batch} 可比较，没有拐点：{speed}",
    ),
    "knee open": (
        "the knee is not decided: the intervals also allow batch size {sizes}",
        "拐点无定论：按区间也可能是批大小 {sizes}",
    ),
    "knee at end": (
        "this is the largest measured batch size, so a larger one may be faster",
        "这是测过的最大批大小，更大的可能更快",
    ),
    "more runs": ("{count} more runs; --json lists all", "另有 {count} 次运行；--json 列出全部"),
    "more precisions": (
        "{count} more runs in another precision than fp32; visionbench export has all numbers",
        "另有 {count} 次非 fp32 精度的运行；visionbench export 给出全部数值",
    ),
    "best of batch": ("fastest at batch size {batch}: {name}", "批大小 {batch} 时最快：{name}"),
    "tied with": ("not distinguishable: {names}", "无法区分：{names}"),
    # precisions
    "speed ratio": ("throughput {ratios}", "吞吐量 {ratios}"),
    "ratio at": ("{ratio} at batch size {batch}", "{ratio}（批大小 {batch}）"),
    "ratio range": ("{low} to {high} at batch sizes {first} to {last}", "{low} 至 {high}（批大小 {first} 至 {last}）"),
    "no ratio": (
        "no ratio of throughput, because at each batch size a case is invalid or missing",
        "没有吞吐量之比：每个批大小都有一侧无效或缺失",
    ),
    "quality not known": ("the difference in quality was not measured", "未测质量差异"),
    "quality not known random": (
        "the difference in quality was not measured, because the weights are random",
        "权重为随机值，未测质量差异",
    ),
    # bounds
    "allows": (
        "{by} of {latency} ms or more: {name} at batch size {batch}, {values}",
        "{by} 不低于 {latency} 毫秒：{name}，批大小 {batch}，{values}",
    ),
    "ladder by p50": (
        "by p50, because {count} of {all} cases have no p95 ({calls} calls, and p95 needs {needed})",
        "依据 p50：{all} 个结果中 {count} 个没有 p95（{calls} 次调用，p95 需 {needed} 次）",
    ),
    # cases that were left out
    "out invalid": (
        "{count} of {all}: invalid, {kind}; for example {detail}",
        "{all} 中 {count} 个：无效，{kind}；例如 {detail}",
    ),
    "out not measured": (
        "{count} of {all}: {kind}; {detail}",
        "{all} 中 {count} 个：{kind}；{detail}",
    ),
    "out no throughput": (
        "{count} of {all}: throughput was not measured",
        "{all} 中 {count} 个：未测吞吐量",
    ),
    "out no latency": (
        "{count} of {all}: the latency is not known, so the bound of {limit} ms cannot be checked",
        "{all} 中 {count} 个：延迟未知，无法核对上限 {limit} 毫秒",
    ),
    "out too slow": (
        "{count} of {all}: above {limit} ms; {detail}",
        "{all} 中 {count} 个：超过 {limit} 毫秒；{detail}",
    ),
    "out no memory": (
        "{count} of {all}: the memory was not measured, so the bound of {limit} MiB cannot be checked",
        "{all} 中 {count} 个：未测内存，无法核对上限 {limit} MiB",
    ),
    "out too large": (
        "{count} of {all}: above {limit} MiB; {detail}",
        "{all} 中 {count} 个：超过 {limit} MiB；{detail}",
    ),
    "out no quality": (
        "{count} of {all}: the quality is not known, and that of other runs is",
        "{all} 中 {count} 个：质量未知，而其他运行已知",
    ),
    "out too inaccurate": (
        "{count} of {all}: the quality is more than {loss} below the best; {detail}",
        "{all} 中 {count} 个：质量低于最佳值超过 {loss}；{detail}",
    ),
    "out open": ("not certain, because an interval contains the limit", "无定论：区间包含上限"),
    "out cases": ("{text} ({cases})", "{text}（{cases}）"),
    # next commands
    "step quiet": ("find out what disturbs this machine, and stop it", "找出并停止干扰本机的程序"),
    "step protocol": ("measure with the standard protocol", "用标准方案测量"),
    "step p95 missing": ("make enough calls for p95", "增加调用次数以得到 p95"),
    "step larger": ("measure larger batch sizes", "测更大的批大小"),
    "step more sizes": ("measure several batch sizes", "测多个批大小"),
    "step undecided": ("get intervals across processes", "得到跨进程区间"),
    "step measure": ("measure throughput too", "同时测吞吐量"),
    "step quality": ("measure quality with the checkpoint (needs a network once)", "用检查点测质量（需联网一次）"),
    "step retry": ("measure again", "重新测量"),
    "step": ("to {purposes}: {command}", "{purposes}：{command}"),
}
