import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Queue;
import java.util.UUID;
import java.util.concurrent.Callable;

import org.apache.kafka.common.utils.AppInfoParser;

/** Runs named scenarios and prints the lines that the suite reads: {@code client NAME VERSION}, {@code ok NAME}, {@code FAIL NAME: why}. */
final class Harness {
    static final long LIMIT_MS = 20_000;

    /** One row of SCENARIOS.md; it throws when the broker is wrong. */
    interface Scenario {
        void run(String bootstrap) throws Exception;
    }

    private final Map<String, Scenario> scenarios = new LinkedHashMap<>();

    void add(String name, Scenario scenario) {
        scenarios.put(name, scenario);
    }

    /** Arguments: BOOTSTRAP [SCENARIO...]. */
    void main(String client, String[] arguments, int atOnce) throws InterruptedException {
        System.out.println("client " + client + " " + AppInfoParser.getVersion());
        String bootstrap = arguments[0];
        Queue<String> waiting = new ArrayDeque<>(
            arguments.length > 1 ? Arrays.asList(arguments).subList(1, arguments.length) : scenarios.keySet());
        List<String> failed = new ArrayList<>();
        List<Thread> workers = new ArrayList<>();
        // The tools redirect standard output; the report goes to the real one.
        var out = System.out;
        for (int i = 0; i < atOnce; i++) {
            Thread worker = new Thread(() -> {
                for (String name = next(waiting); name != null; name = next(waiting)) {
                    String why = outcome(name, bootstrap);
                    if (why != null) {
                        failed.add(name);
                    }
                    out.println(why == null ? "ok " + name : "FAIL " + name + ": " + why);
                }
            });
            worker.start();
            workers.add(worker);
        }
        for (Thread worker : workers) {
            worker.join();
        }
        out.flush();
        Runtime.getRuntime().halt(failed.isEmpty() ? 0 : 1);
    }

    private static String next(Queue<String> waiting) {
        synchronized (waiting) {
            return waiting.poll();
        }
    }

    private String outcome(String name, String bootstrap) {
        try {
            Scenario scenario = scenarios.get(name);
            check(scenario != null, "this program has no such scenario");
            scenario.run(bootstrap);
            return null;
        } catch (Throwable problem) {
            StringBuilder where = new StringBuilder();
            for (StackTraceElement frame : problem.getStackTrace()) {
                if (List.of("Scenarios", "Secured", "Tools").contains(frame.getClassName().replaceAll("\\$.*", ""))) {
                    where.append(' ').append(frame.getLineNumber());
                }
            }
            Throwable cause = problem.getCause();
            return (problem + " at" + where + (cause == null ? "" : " caused by " + cause)).replaceAll("\\s+", " ");
        }
    }

    static void check(boolean condition, String what) {
        if (!condition) {
            throw new AssertionError(what);
        }
    }

    static void equal(Object actual, Object expected, String what) {
        check(Objects.equals(actual, expected), what + ": expected " + expected + ", got " + actual);
    }

    /** Polls until the condition holds. */
    static void eventually(String what, Callable<Boolean> condition) throws Exception {
        long deadline = System.currentTimeMillis() + LIMIT_MS;
        while (!condition.call()) {
            check(System.currentTimeMillis() < deadline, "not within " + LIMIT_MS + " ms: " + what);
            Thread.sleep(50);
        }
    }

    /** The action must end with an error of this class, possibly as a cause. */
    static void refused(String what, Class<? extends Throwable> expected, Callable<?> action) {
        Object result;
        try {
            result = action.call();
        } catch (Throwable problem) {
            for (Throwable each = problem; each != null; each = each.getCause()) {
                if (expected.isInstance(each)) {
                    return;
                }
            }
            throw new AssertionError(what + ": refused with another error", problem);
        }
        throw new AssertionError(what + ": was not refused but gave " + result);
    }

    static String unique(String name) {
        return name + "-" + UUID.randomUUID().toString().substring(0, 8);
    }
}
