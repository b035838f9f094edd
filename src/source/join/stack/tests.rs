use crate::source::join::tests::expect;
use crate::source::join::{Language, Rule};

fn expect_of(language: Language, marked: &str) {
    expect(Rule::Stack(language), marked);
    // As Windows ends its lines.
    expect(Rule::Stack(language), &marked.replace('\n', "\r\n"));
}

#[test]
fn java_trace_is_one_record_with_its_causes() {
    expect_of(
        Language::Java,
        r#">2026-11-25 10:00:00 ERROR shop - order failed
>java.lang.IllegalStateException: no stock
-	at shop.Order.place(Order.java:42)
-	at java.base/java.lang.Thread.run(Thread.java:840)
-	Suppressed: java.io.IOException: closing
-		at shop.Order.close(Order.java:9)
-Caused by: java.sql.SQLException: timeout
-	at shop.Db.query(Db.java:7)
-	... 12 more
-Caused by: java.net.SocketException
-    at shop.Db.connect(Db.java:3)
-    ... 3 common frames omitted
>2026-11-25 10:00:01 INFO shop - next
>at noon it began"#,
    );
}

#[test]
fn python_trace_is_one_record_with_its_last_line() {
    expect_of(
        Language::Python,
        r#">ERROR:root:order failed
>Traceback (most recent call last):
-  File "shop.py", line 3, in <module>
-    place()
-    ~~~~~^^
-  File "shop.py", line 2, in place
-    raise shop.errors.NoStock("none")
-shop.errors.NoStock: none
>INFO:root:next
>
>KeyboardInterrupt
>Traceback (most recent call last):
-  File "shop.py", line 3, in <module>
-KeyboardInterrupt
>
>INFO:root:an empty line before me"#,
    );
}

#[test]
fn python_exceptions_that_others_caused_are_one_record() {
    for chain in [
        "During handling of the above exception, another exception occurred:",
        "The above exception was the direct cause of the following exception:",
    ] {
        let marked = format!(
            r#">Traceback (most recent call last):
-  File "shop.py", line 3, in f
-KeyError: 'a'
-
-{chain}
-
-Traceback (most recent call last):
-  File "shop.py", line 5, in g
-ValueError: b
>
>
>INFO:root:next"#
        );
        expect_of(Language::Python, &marked);
    }
}

#[test]
fn python_group_of_exceptions_is_one_record() {
    expect_of(
        Language::Python,
        r#">  + Exception Group Traceback (most recent call last):
-  |   File "shop.py", line 1, in <module>
-  | ExceptionGroup: two (2 sub-exceptions)
-  +-+---------------- 1 ----------------
-    | ValueError: 1
-    +---------------- 2 ----------------
-    | TypeError: 2
-    +------------------------------------
>INFO: next"#,
    );
}

#[test]
fn go_panic_is_one_record_with_all_its_goroutines() {
    expect_of(
        Language::Go,
        r#">2026/11/25 10:00:00 starting
>panic: runtime error: invalid memory address or nil pointer dereference
-	panic: again
-[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x48]
-
-goroutine 1 [running]:
-main.(*Order).Place(0xc000012345, {0x4b, 0x3})
-	/src/shop/order.go:42 +0x1d
-net/http.HandlerFunc.ServeHTTP(...)
-	/usr/lib/go/src/net/http/server.go:2136
-main.main.func1()
-	/src/shop/main.go:7 +0x20
-created by main.main in goroutine 1
-	/src/shop/main.go:5 +0x65
-
-goroutine 18 gp=0xc000 m=1 [chan receive, 5 minutes]:
-main.wait(0x1)
-	/src/shop/main.go:9 +0x3b
-
-rax    0x0
-rip    0x461a41
>exit status 2"#,
    );
}

#[test]
fn go_panic_of_a_request_and_a_deadlock_begin_records() {
    expect_of(
        Language::Go,
        r#">2026/11/25 10:00:00 http: panic serving 127.0.0.1:4567: none
-goroutine 5 [running]:
-net/http.(*conn).serve.func1()
-	/usr/lib/go/src/net/http/server.go:1868 +0xb9
>
>2026/11/25 10:00:01 next
>fatal error: all goroutines are asleep - deadlock!
-
-goroutine 1 [chan receive]:
-main.main()
-	/src/shop/main.go:5 +0x20"#,
    );
}
