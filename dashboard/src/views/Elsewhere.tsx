export function Nowhere() {
  return (
    <section class="nothing">
      <h1>There is nothing here</h1>
      <p>
        Perhaps the address was mistyped. Go to the <a href="/">overview</a>.
      </p>
    </section>
  );
}

export function SignedOut() {
  return (
    <main class="nothing" id="main">
      <h1>You are signed out</h1>
      <p>
        Run <code>tfctl dashboard</code> on the machine: it opens this page, signed in.
      </p>
    </main>
  );
}
